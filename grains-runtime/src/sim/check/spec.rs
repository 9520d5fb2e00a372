//! What a thing does when one operation comes after the other: the truth that a concurrent history is compared with.

use std::{fmt::Debug, marker::PhantomData};

/// This is a sequential thing: a state, and what each operation does to it and answers.
///
/// [`Register`] and [`Counter`] are ready to use. To judge another kind of grain, write what it does as a pure function:
///
/// ```
/// use grains_runtime::sim::check::Spec;
///
/// /// A door that says whether it was open when it was pushed.
/// struct Door;
///
/// impl Spec for Door {
///     type State = bool;
///     type Input = &'static str;
///     type Output = bool;
///     fn init() -> bool {
///         false
///     }
///     fn step(open: &bool, input: &&'static str) -> (bool, bool) {
///         (*input == "open", *open)
///     }
/// }
/// ```
pub trait Spec {
    /// What it remembers.
    type State: Clone + Ord + Debug;
    /// An operation with its arguments.
    type Input: Clone + PartialEq + Debug;
    /// What an operation answers.
    type Output: Clone + PartialEq + Debug;

    /// The state before the first operation.
    fn init() -> Self::State;

    /// The state after `input`, and the answer.
    fn step(state: &Self::State, input: &Self::Input) -> (Self::State, Self::Output);

    /// Whether `input` may still be answered with `output` some time after `state`, whatever comes between. `true` is never
    /// wrong; a `false` where it is certain spares the checker dead ends.
    fn may_still(state: &Self::State, input: &Self::Input, output: &Self::Output) -> bool {
        let _ = (state, input, output);
        true
    }

    /// Whether `input`, answered with `output`, changes no state whatever. `false` is never wrong; a `true` where it is
    /// certain spares the checker most of its work.
    fn only_looks(input: &Self::Input, output: &Self::Output) -> bool {
        let _ = (input, output);
        false
    }

    /// Whether `input` leaves the same state and gives the same answer whatever the state before. `false` is never wrong; a
    /// `true` where it is certain spares the checker much work with unknown outcomes.
    fn overwrites(input: &Self::Input) -> bool {
        let _ = input;
        false
    }
}

/// A value that is read, overwritten, and swapped if it is what the caller thinks. Write every value once only: then a
/// stale or lost one cannot hide behind an equal one.
///
/// ```
/// use grains_runtime::sim::check::{Register, RegisterOp, RegisterOutput, Spec};
///
/// let (state, output) = Register::<u64>::step(&1, &RegisterOp::Swap { from: 1, to: 2 });
/// assert_eq!((state, output), (2, RegisterOutput::Swapped(true)));
/// ```
pub struct Register<V>(PhantomData<V>);

/// An operation of a [`Register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegisterOp<V> {
    /// Answers [`RegisterOutput::Value`].
    Read,
    /// Answers [`RegisterOutput::Written`].
    Write(V),
    /// Compare and swap: answers [`RegisterOutput::Swapped`].
    Swap {
        /// What the value must be.
        from: V,
        /// What it becomes.
        to: V,
    },
}

/// An answer of a [`Register`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegisterOutput<V> {
    /// What was read.
    Value(V),
    /// The value was overwritten.
    Written,
    /// Whether the value was what the caller thought, and was swapped.
    Swapped(bool),
}

impl<V: Clone + Ord + Debug + Default> Spec for Register<V> {
    type State = V;
    type Input = RegisterOp<V>;
    type Output = RegisterOutput<V>;

    fn init() -> V {
        V::default()
    }

    fn step(state: &V, input: &RegisterOp<V>) -> (V, RegisterOutput<V>) {
        match input {
            RegisterOp::Read => (state.clone(), RegisterOutput::Value(state.clone())),
            RegisterOp::Write(value) => (value.clone(), RegisterOutput::Written),
            RegisterOp::Swap { from, to } if from == state => (to.clone(), RegisterOutput::Swapped(true)),
            RegisterOp::Swap { .. } => (state.clone(), RegisterOutput::Swapped(false)),
        }
    }

    fn only_looks(input: &RegisterOp<V>, output: &RegisterOutput<V>) -> bool {
        matches!(input, RegisterOp::Read) || matches!(output, RegisterOutput::Swapped(false))
    }

    fn overwrites(input: &RegisterOp<V>) -> bool {
        matches!(input, RegisterOp::Write(_))
    }
}

/// A sum that only grows. Every operation answers the sum after it, so each addition that got lost or came twice shows in
/// all later answers. Add few different amounts, such as 1 to 3: with dozens of unknown outcomes of a hundred different ones
/// nearly every sum has an explanation, and the checker may give up on finding the right one.
///
/// ```
/// use grains_runtime::sim::check::{Counter, CounterOp, Spec};
///
/// assert_eq!(Counter::step(&40, &CounterOp::Add(2)), (42, 42));
/// ```
pub struct Counter;

/// An operation of a [`Counter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CounterOp {
    /// Adds, and answers the new sum.
    Add(u64),
    /// Answers the sum.
    Read,
}

impl Spec for Counter {
    type State = u64;
    type Input = CounterOp;
    type Output = u64;

    fn init() -> u64 {
        0
    }

    fn step(sum: &u64, input: &CounterOp) -> (u64, u64) {
        let sum = match input {
            CounterOp::Add(amount) => sum.saturating_add(*amount),
            CounterOp::Read => *sum,
        };
        (sum, sum)
    }

    fn may_still(sum: &u64, input: &CounterOp, output: &u64) -> bool {
        Counter::step(sum, input).0 <= *output
    }

    fn only_looks(input: &CounterOp, _: &u64) -> bool {
        matches!(input, CounterOp::Read)
    }
}
