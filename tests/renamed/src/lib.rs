//! An interface crate, as users write them, that knows `grains` by another name: what the attributes write reaches it only
//! through `crate = ..`, and is documented and linted like the rest.
#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub, clippy::all, clippy::pedantic)]
#![no_implicit_prelude]

/// What the rest of this crate calls `grains`.
pub mod deep {
    pub use ::kernel as grains;
}

/// A seat in a hall.
#[derive(Clone, Debug, ::kernel::GrainKey)]
#[grain_key(crate = crate::deep::grains)]
pub struct Seat {
    /// Which row.
    pub row: u16,
}

/// Books one seat.
#[::kernel::rpc_trait(crate = crate::deep::grains, key = Seat)]
pub trait Booking {
    /// Books it for `name`.
    async fn book(&mut self, name: ::kernel::__private::String) -> ::kernel::Result<bool>;
    /// Whether it is free.
    #[deprecated = "book it and see"]
    async fn free(&self) -> ::kernel::Result<bool>;
}

/// A seat that is always free.
#[::kernel::grain(Booking, default, crate = crate::deep::grains)]
#[derive(Debug, Default)]
pub struct FreeSeat {}

impl Booking for FreeSeat {
    async fn book(&mut self, _: ::kernel::__private::String) -> ::kernel::Result<bool> {
        ::core::result::Result::Ok(true)
    }
    async fn free(&self) -> ::kernel::Result<bool> {
        ::core::result::Result::Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #[::kernel::rpc_trait(crate = super::deep::grains)]
    trait Clerk {
        async fn greet(&self) -> ::kernel::Result<()>;
    }

    #[::kernel::grain(Clerk, default, crate = super::deep::grains)]
    #[derive(Default)]
    struct ClerkGrain;

    impl Clerk for ClerkGrain {
        async fn greet(&self) -> ::kernel::Result<()> {
            ::core::result::Result::Ok(())
        }
    }

    #[test]
    fn an_interface_works_under_another_name() {
        let ctx = ::kernel::Ctx::<ClerkGrain>::detached("a").answers::<super::BookingRef>(super::FreeSeat {});
        let seat: super::BookingRef = ctx.get(super::Seat { row: 7 });
        ::core::assert_eq!(::std::format!("{seat:?}"), "BookingRef(booking/7)");
    }
}
