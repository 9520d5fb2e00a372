//! What the attributes write: references, methods, ids, keys. No node runs here: calls are answered by fakes.

use std::{
    collections::HashSet,
    pin::pin,
    task::{Context, Poll, Waker},
};

use grains::{CallError, Ctx, GrainKey, Interface, Lifecycle, Result, grain, rpc_trait};
use serde::{Deserialize, Serialize};

/// The output of a future that never waits.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a fake never waits"),
    }
}

/// Counts.
#[rpc_trait]
trait Counter {
    async fn add(&mut self, n: u64) -> Result<u64>;
    async fn total(&self) -> Result<u64>;
}

#[grain(Counter, default)]
#[derive(Default)]
struct CounterGrain {
    total: u64,
}

impl Counter for CounterGrain {
    async fn add(&mut self, n: u64) -> Result<u64> {
        self.total += n;
        Ok(self.total)
    }
    async fn total(&self) -> Result<u64> {
        Ok(self.total)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CartError {
    Full { max: u32 },
}

impl std::fmt::Display for CartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

#[rpc_trait(grain_type = "cart", key = (String, u32))]
trait Cart {
    async fn put(&mut self, item: String, count: u32) -> std::result::Result<u32, CartError>;
    async fn link(&mut self, visits: CounterRef, note: Option<String>) -> std::result::Result<(), CartError>;
}

mod admin {
    use super::{Result, rpc_trait};

    #[rpc_trait(grain_type = "cart", key = (String, u32))]
    pub(super) trait CartAdmin {
        #[rpc(name = "wipe", idempotent)]
        async fn clear(&mut self) -> Result<()>;
        #[rpc(idempotent)]
        #[rpc(name = "put_many")]
        async fn put_all(&mut self, items: Vec<(String, u32)>) -> Result<()>;
    }
}
use admin::CartAdminRef;

#[grain(Cart, admin::CartAdmin)]
struct CartGrain {
    ctx: Ctx<Self>,
    items: Vec<(String, u32)>,
    visits: CounterRef,
}

impl Lifecycle for CartGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { items: Vec::new(), visits: ctx.get("visits"), ctx })
    }
}

impl Cart for CartGrain {
    async fn put(&mut self, item: String, count: u32) -> std::result::Result<u32, CartError> {
        if self.items.len() == 2 {
            return Err(CartError::Full { max: 2 });
        }
        self.items.push((item, count));
        self.visits.add(u64::from(count)).await.expect("the fake counts");
        Ok(count)
    }
    async fn link(&mut self, visits: CounterRef, _: Option<String>) -> std::result::Result<(), CartError> {
        self.visits = visits;
        Ok(())
    }
}

impl admin::CartAdmin for CartGrain {
    async fn clear(&mut self) -> Result<()> {
        self.items.clear();
        Ok(())
    }
    async fn put_all(&mut self, items: Vec<(String, u32)>) -> Result<()> {
        self.items = items;
        Ok(())
    }
}

fn cart() -> CartGrain {
    let ctx = Ctx::detached(("ann", 7)).answers::<CounterRef>(CounterGrain { total: 100 });
    now(CartGrain::activate(ctx)).expect("nothing can fail here")
}

#[test]
fn a_grain_is_called_like_any_struct() {
    let mut cart = cart();
    assert_eq!(now(cart.put("tea".into(), 2)), Ok(2));
    assert_eq!(now(cart.put("cup".into(), 1)), Ok(1));
    assert_eq!(now(cart.put("pot".into(), 1)), Err(CartError::Full { max: 2 }));
    assert_eq!(now(cart.visits.total()), Ok(103));
}

#[test]
fn default_activates_with_default() {
    let counter = now(CounterGrain::activate(Ctx::detached("a"))).unwrap();
    assert_eq!(now(counter.total()), Ok(0));
}

#[test]
fn a_reference_calls_every_interface_of_its_grain() {
    let fake = cart();
    let ctx = Ctx::<CounterGrain>::detached("caller").answers::<CartRef>(fake).answers::<CartAdminRef>(cart());
    let (cart, admin) = (ctx.get::<CartRef>(("ann", 7)), ctx.get::<CartAdminRef>(("ann", 7)));
    assert_eq!(now(cart.put("tea".into(), 2)), Ok(2));
    assert_eq!(now(cart.put("cup".into(), 1)), Ok(1));
    assert_eq!(now(cart.put("pot".into(), 1)), Err(CallError::Grain(CartError::Full { max: 2 })));
    assert_eq!(now(admin.put_all(vec![("tea".into(), 1)])), Ok(()));
    assert_eq!(now(admin.clear()), Ok(()));
}

#[test]
fn the_grain_has_the_type_key_and_interfaces_of_its_traits() {
    fn describe<G: grains::Grain<Key = K>, K: GrainKey>() -> &'static str {
        G::GRAIN_TYPE
    }
    assert_eq!(describe::<CartGrain, (String, u32)>(), "cart");
    assert_eq!(describe::<CounterGrain, String>(), "counter");
    let cart = cart();
    assert_eq!(cart.ctx.id().to_string(), "cart/ann/7");
    assert_eq!(cart.ctx.me::<CartAdminRef>().as_raw().id(), cart.ctx.id());
}

#[test]
fn methods_are_addressed_by_name() {
    let describe = |methods: &[grains::MethodInfo]| {
        methods.iter().map(|m| format!("{} {} {}", m.name, m.access, m.idempotent)).collect::<Vec<_>>()
    };
    assert_eq!(describe(CounterRef::METHODS), ["add exclusive false", "total shared false"]);
    assert_eq!(describe(CartAdminRef::METHODS), ["wipe exclusive true", "put_many exclusive true"]);
    assert_eq!((CounterRef::NAME, CounterRef::GRAIN_TYPE), ("Counter", "counter"));
    assert_eq!((CartAdminRef::NAME, CartAdminRef::GRAIN_TYPE), ("CartAdmin", "cart"));
    assert_eq!(CounterRef::METHODS[0].id, grains::MethodInfo::new("add", CounterRef::METHODS[0].access).id);
}

#[test]
fn arguments_survive_their_bytes() {
    let ctx = Ctx::<CounterGrain>::detached("caller").answers::<CartRef>(cart());
    let cart: CartRef = ctx.get(("ann", 7));
    let stored = cart.put("tea".into(), 2).store().unwrap();
    assert_eq!((stored.method().name, stored.grain().to_string()), ("put", "cart/ann/7".to_owned()));
    assert_eq!(now(stored.make()), Ok(()));
    assert_eq!(now(stored.make()), Ok(()));
    assert!(now(stored.make()).is_err(), "the cart is full by now: both calls arrived");
}

#[test]
fn a_reference_in_an_argument_can_be_called_by_the_receiver() {
    struct Linked;
    impl Cart for Linked {
        async fn put(&mut self, _: String, count: u32) -> std::result::Result<u32, CartError> {
            Ok(count)
        }
        async fn link(&mut self, visits: CounterRef, note: Option<String>) -> std::result::Result<(), CartError> {
            assert_eq!((visits.add(1).await, note), (Ok(101), None));
            Ok(())
        }
    }
    let ctx = Ctx::<CounterGrain>::detached("caller")
        .answers::<CartRef>(Linked)
        .answers::<CounterRef>(CounterGrain { total: 100 });
    let link = ctx.get::<CartRef>(("ann", 7)).link(ctx.get("visits"), None).store().unwrap();
    assert_eq!(now(link.make()), Ok(()));
}

#[test]
fn references_are_values() {
    let ctx = Ctx::<CounterGrain>::detached("caller");
    let (a, b): (CounterRef, CounterRef) = (ctx.get("a"), ctx.get("b"));
    assert_eq!(a, a.clone());
    assert_ne!(a, b);
    assert_eq!(HashSet::from([a.clone(), b, a.clone()]).len(), 2);
    assert_eq!(format!("{a:?}"), "CounterRef(counter/a)");
    assert_eq!(format!("{:?}", a.add(1)), "Call(counter/a.add)");
}

#[test]
fn a_reference_is_serialized_as_its_key() {
    let cart: CartRef = serde_json::from_str(r#""ann/7""#).unwrap();
    assert_eq!(cart.as_raw().id().to_string(), "cart/ann/7");
    assert_eq!(serde_json::to_string(&cart).unwrap(), r#""ann/7""#);
    assert!(serde_json::from_str::<CartRef>(r#""ann""#).is_err(), "the key of a cart has two parts");
    assert!(
        matches!(now(cart.put("tea".into(), 1)), Err(CallError::BadReference { .. })),
        "it was read outside a node"
    );
}

#[derive(Clone, Debug, PartialEq, GrainKey)]
struct Seat {
    hall: String,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, GrainKey)]
struct Place(u16, i8);

#[derive(Clone, Debug, PartialEq, GrainKey)]
struct Tenant<K> {
    tenant: u64,
    key: K,
}

#[derive(Clone, Debug, PartialEq, GrainKey)]
struct Only;

#[rpc_trait(key = Tenant<Seat>)]
trait Booking {
    async fn book(&mut self, name: String) -> Result<()>;
}

#[test]
fn a_struct_of_keys_is_a_key() {
    let seat = Seat { hall: "a/b".into(), place: Place(7, -1) };
    assert_eq!(seat.to_text(), "a%2Fb/7/-1");
    assert_eq!(Seat::from_text("a%2Fb/7/-1"), Ok(seat.clone()));
    assert!(Seat::from_text("a/b/7/-1").is_err());
    assert!(Seat::from_text("a/7").is_err());
    assert_eq!((Only.to_text(), Only::from_text("")), (String::new(), Ok(Only)));

    let ctx = Ctx::<CounterGrain>::detached("caller");
    let booking: BookingRef = ctx.get(Tenant { tenant: 3, key: seat });
    assert_eq!(booking.as_raw().id().to_string(), "booking/3/a%2Fb/7/-1");
}
