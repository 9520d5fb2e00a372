//! Where the futures of turns are. Most turns end in their first poll, so each thread keeps the places of a few that have, and the
//! next call of the same method finds one: memory is asked for by turns that wait, whose places go with them.

use std::{
    any::Any,
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use grains_core::MethodId;

/// How many places a thread keeps: those of the methods it calls in turn.
const KEPT_MAX: usize = 8;

/// Larger places are not kept.
const BYTES_MAX: usize = 4096;

thread_local! {
    static KEPT: [Cell<Option<Box<dyn Any>>>; KEPT_MAX] = const { [const { Cell::new(None) }; KEPT_MAX] };
}

/// A future in its place.
pub(super) struct Placed<F> {
    place: Pin<Box<Option<F>>>,
    method: MethodId,
}

/// The place of a future that was kept, while it is not used.
struct Kept<F>(Option<Pin<Box<Option<F>>>>);

impl<F: 'static> Placed<F> {
    /// Puts the future of a turn of this method into its place.
    pub(super) fn new(method: MethodId, future: F) -> Self {
        let mut place = kept(method).unwrap_or_else(|| Box::pin(None));
        place.as_mut().set(Some(future));
        Self { place, method }
    }

    /// The future.
    pub(super) fn get(&self) -> &F {
        self.place.as_ref().get_ref().as_ref().expect("it is there until it has ended")
    }

    /// Drops the future, which has ended on this thread, and keeps the place.
    pub(super) fn ended(mut self) {
        self.place.as_mut().set(None);
        if size_of::<F>() <= BYTES_MAX {
            keep(self.method, self.place);
        }
    }
}

impl<F: Future> Placed<F> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.place.as_mut().as_pin_mut().expect("it is there until it has ended").poll(cx)
    }
}

/// A place that was kept for this method and this future. What is around it stays, for when it comes back.
fn kept<F: 'static>(method: MethodId) -> Option<Pin<Box<Option<F>>>> {
    let mut kept = take(method)?.downcast::<Kept<F>>().ok()?;
    let place = kept.0.take();
    put(method, kept);
    place
}

fn keep<F: 'static>(method: MethodId, place: Pin<Box<Option<F>>>) {
    match take(method).and_then(|other| other.downcast::<Kept<F>>().ok()) {
        Some(mut kept) => {
            // Dropped at the end, if there is one: it is empty.
            let _before = kept.0.replace(place);
            put(method, kept);
        }
        None => put(method, Box::new(Kept(Some(place)))),
    }
}

// No generics here: each method of each grain would have its own copy.

fn take(method: MethodId) -> Option<Box<dyn Any>> {
    KEPT.try_with(|kept| kept[method.0 as usize % KEPT_MAX].take()).ok().flatten()
}

fn put(method: MethodId, kept: Box<dyn Any>) {
    // A thread that ends keeps nothing.
    let before = KEPT.try_with(|places| places[method.0 as usize % KEPT_MAX].replace(Some(kept)));
    drop(before);
}

#[cfg(test)]
mod tests {
    use std::{future::ready, task::Waker};

    use super::*;

    fn address<F>(placed: &Placed<F>) -> *const () {
        std::ptr::from_ref(placed.place.as_ref().get_ref()).cast()
    }

    fn poll<F: Future>(placed: &mut Placed<F>) -> Poll<F::Output> {
        placed.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_place_is_that_of_the_next_of_its_kind() {
        let (one, other) = (MethodId(3), MethodId(3 + KEPT_MAX as u32));
        let mut first = Placed::new(one, ready(7_u64));
        let place = address(&first);
        assert_eq!(poll(&mut first), Poll::Ready(7));
        first.ended();
        let inner = Placed::new(one, ready(8_u64));
        assert_eq!(address(&inner), place);
        let nested = Placed::new(one, ready(9_u64));
        assert_ne!(address(&nested), place, "that one is in use");
        nested.ended();
        inner.ended();
        // Another future in the same cell takes it over.
        let mut text = Placed::new(other, ready("text".to_owned()));
        assert_eq!(poll(&mut text), Poll::Ready("text".to_owned()));
        text.ended();
        assert_eq!(poll(&mut Placed::new(one, ready(10_u64))), Poll::Ready(10));
    }

    #[test]
    fn a_future_is_dropped_when_it_has_ended_not_when_its_place_is() {
        let alive = std::sync::Arc::new(());
        let kept = alive.clone();
        let mut placed = Placed::new(MethodId(1), async move { drop(kept) });
        assert_eq!(std::sync::Arc::strong_count(&alive), 2);
        assert!(poll(&mut placed).is_ready());
        placed.ended();
        assert_eq!(std::sync::Arc::strong_count(&alive), 1);
        drop(Placed::new(MethodId(1), ready(alive.clone())));
        assert_eq!(std::sync::Arc::strong_count(&alive), 1);
    }
}
