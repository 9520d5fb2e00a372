//! What users may call things, and where they may write them: no name is taken by what the attributes write.
#![deny(warnings, clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications)]
#![allow(clippy::many_single_char_names, clippy::unused_async, reason = "grains that do nothing need no more")]

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use grains::{Ctx, Interface as _, Lifecycle as _};

/// The output of a future that never waits.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a fake never waits"),
    }
}

#[grains::rpc_trait]
trait Caller {
    async fn nothing(&self) -> grains::Result<()>;
}

#[grains::grain(Caller, default)]
#[derive(Default)]
struct CallerGrain;

impl Caller for CallerGrain {
    async fn nothing(&self) -> grains::Result<()> {
        Ok(())
    }
}

/// Types, arguments and methods named like what the attributes write inside.
mod names {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub(crate) struct G(pub(crate) u8);
    #[derive(Serialize, Deserialize)]
    pub(crate) struct T;
    #[derive(Serialize, Deserialize)]
    pub(crate) struct S;
    #[derive(Serialize, Deserialize)]
    pub(crate) struct D;
    #[derive(Serialize, Deserialize)]
    pub(crate) struct Call;
    #[derive(Serialize, Deserialize)]
    pub(crate) struct Result;
    #[derive(Serialize, Deserialize)]
    pub(crate) struct Future;

    #[allow(clippy::too_many_arguments)]
    #[grains::rpc_trait]
    pub(crate) trait Names {
        async fn arguments(
            &self,
            call: u8,
            args: u8,
            self_: u8,
            method: u8,
            turns: u8,
            grain: u8,
        ) -> grains::Result<u8>;
        async fn more(&self, raw: u8, reader: u8, serializer: u8, id: u8, site: u8, r#type: u8) -> grains::Result<u8>;
        async fn types(&self, g: G, t: T, s: S, d: D, call: Call, result: Result, future: Future)
        -> grains::Result<u8>;
        async fn r#type(&self) -> grains::Result<u8>;
        async fn clone(&self) -> grains::Result<u8>;
        async fn eq(&self, other: u8) -> grains::Result<u8>;
        async fn hash(&self) -> grains::Result<u8>;
        async fn fmt(&self) -> grains::Result<u8>;
        async fn call(&self) -> grains::Result<u8>;
        async fn from_raw(&self) -> grains::Result<u8>;
        async fn as_raw(&self) -> grains::Result<u8>;
        async fn dispatch(&self) -> grains::Result<u8>;
        async fn len(&self) -> grains::Result<u8>;
        async fn u8(&self, u8: u8) -> grains::Result<u8>;
    }

    #[grains::grain(Names)]
    pub(crate) struct NamesGrain;

    impl Names for NamesGrain {
        async fn arguments(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) -> grains::Result<u8> {
            Ok(a + b + c + d + e + f)
        }
        async fn more(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) -> grains::Result<u8> {
            Ok(a + b + c + d + e + f)
        }
        async fn types(&self, g: G, _: T, _: S, _: D, _: Call, _: Result, _: Future) -> grains::Result<u8> {
            Ok(g.0)
        }
        async fn r#type(&self) -> grains::Result<u8> {
            Ok(1)
        }
        async fn clone(&self) -> grains::Result<u8> {
            Ok(2)
        }
        async fn eq(&self, other: u8) -> grains::Result<u8> {
            Ok(other)
        }
        async fn hash(&self) -> grains::Result<u8> {
            Ok(4)
        }
        async fn fmt(&self) -> grains::Result<u8> {
            Ok(5)
        }
        async fn call(&self) -> grains::Result<u8> {
            Ok(6)
        }
        async fn from_raw(&self) -> grains::Result<u8> {
            Ok(7)
        }
        async fn as_raw(&self) -> grains::Result<u8> {
            Ok(8)
        }
        async fn dispatch(&self) -> grains::Result<u8> {
            Ok(9)
        }
        async fn len(&self) -> grains::Result<u8> {
            Ok(10)
        }
        async fn u8(&self, u8: u8) -> grains::Result<u8> {
            Ok(u8)
        }
    }
}

#[test]
fn any_name_will_do() {
    use names::{Call, D, Future, G, NamesGrain, NamesRef, Result, S, T};
    let ctx = Ctx::<CallerGrain>::detached("caller").answers::<NamesRef>(NamesGrain);
    let names: NamesRef = ctx.get("a");
    assert_eq!(now(names.arguments(1, 2, 3, 4, 5, 6)), Ok(21));
    assert_eq!(now(names.more(1, 2, 3, 4, 5, 7)), Ok(22));
    assert_eq!(now(names.types(G(7), T, S, D, Call, Result, Future)), Ok(7));
    let no_arguments = [
        now(names.r#type()),
        now(names.clone()),
        now(names.hash()),
        now(names.fmt()),
        now(names.call()),
        now(names.from_raw()),
        now(names.as_raw()),
        now(names.dispatch()),
        now(names.len()),
    ];
    assert_eq!(no_arguments, [1, 2, 4, 5, 6, 7, 8, 9, 10].map(Ok));
    assert_eq!((now(names.eq(3)), now(names.u8(11))), (Ok(3), Ok(11)));
    assert_eq!(NamesRef::METHODS[3].name, "type");
}

/// Nothing in scope but `grains` and `core`.
mod no_prelude {
    #![no_implicit_prelude]

    #[::core::prelude::v1::derive(::core::clone::Clone, ::grains::GrainKey)]
    pub(super) struct Place {
        pub(super) row: u8,
    }

    #[::grains::rpc_trait(grain_type = "bare", key = Place)]
    pub(super) trait Bare {
        async fn twice(&mut self, n: u8) -> ::grains::Result<u8>;
    }

    #[::grains::rpc_trait(grain_type = "bare", key = Place)]
    pub(super) trait BareAdmin {
        async fn nothing(&self) -> ::grains::Result<()>;
    }

    #[::grains::grain(Bare, BareAdmin, default)]
    #[::core::prelude::v1::derive(::core::default::Default)]
    pub(super) struct BareGrain;

    impl Bare for BareGrain {
        async fn twice(&mut self, n: u8) -> ::grains::Result<u8> {
            ::core::result::Result::Ok(n * 2)
        }
    }

    impl BareAdmin for BareGrain {
        async fn nothing(&self) -> ::grains::Result<()> {
            ::core::result::Result::Ok(())
        }
    }
}

#[test]
fn no_prelude_is_needed() {
    use no_prelude::{BareGrain, BareRef, Place};
    let grain = now(BareGrain::activate(Ctx::detached(Place { row: 1 }))).unwrap();
    let ctx = Ctx::<CallerGrain>::detached("caller").answers::<BareRef>(grain);
    assert_eq!(now(ctx.get::<BareRef>(Place { row: 1 }).twice(4)), Ok(8));
}

#[test]
fn grains_can_be_written_in_a_function() {
    #[derive(Clone, grains::GrainKey)]
    struct Local(u8);

    #[grains::rpc_trait(key = Local)]
    trait Room {
        async fn say(&mut self, line: String) -> grains::Result<usize>;
    }

    #[grains::grain(Room, default)]
    #[derive(Default)]
    struct RoomGrain {
        lines: Vec<String>,
    }

    impl Room for RoomGrain {
        async fn say(&mut self, line: String) -> grains::Result<usize> {
            self.lines.push(line);
            Ok(self.lines.len())
        }
    }

    let ctx = Ctx::<CallerGrain>::detached("caller").answers::<RoomRef>(RoomGrain::default());
    assert_eq!(now(ctx.get::<RoomRef>(Local(1)).say("hi".into())), Ok(1));
}

#[test]
fn grains_can_be_generic_and_made_by_macros() {
    macro_rules! interface {
        ($name:ident, $method:ident($argument:ident: $ty:ty) -> $reply:ty) => {
            #[grains::rpc_trait(crate = $crate::elsewhere)]
            trait $name: Sync {
                async fn $method(&self, $argument: $ty) -> $reply;
            }
        };
    }
    interface!(Echo, echo(text: String) -> grains::Result<String>);

    #[grains::grain(Echo)]
    struct EchoGrain<Suffix, const TIMES: usize>(Suffix)
    where
        Suffix: AsRef<str> + Send + Sync + 'static;

    impl<Suffix: AsRef<str> + Send + Sync + 'static, const TIMES: usize> Echo for EchoGrain<Suffix, TIMES> {
        async fn echo(&self, text: String) -> grains::Result<String> {
            Ok(text + &self.0.as_ref().repeat(TIMES))
        }
    }

    let ctx = Ctx::<EchoGrain<String, 1>>::detached("caller").answers::<EchoRef>(EchoGrain::<_, 2>("!"));
    assert_eq!(now(ctx.get::<EchoRef>("a").echo("hi".into())), Ok("hi!!".to_owned()));
}

/// A facade that is not called `grains`.
mod elsewhere {
    pub(crate) mod __private {
        pub(crate) use grains::__private::*;

        pub(crate) fn run_main<F: Future<Output = usize>>(worker_threads: Option<usize>, main: F) -> usize {
            worker_threads.map_or(100, |threads| 10 * threads) + super::super::now(main)
        }
    }
}

mod three_threads {
    #[grains::main(worker_threads = 3, crate = crate::elsewhere)]
    pub(super) async fn main() -> usize {
        7
    }
}

mod as_many_threads_as_cores {
    #[grains::main(crate = crate::elsewhere)]
    pub(super) async fn main() -> usize {
        7
    }
}

#[test]
fn main_runs_on_the_threads_it_asks_for() {
    assert_eq!((three_threads::main(), as_many_threads_as_cores::main()), (37, 107));
}
