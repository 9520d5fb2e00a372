//! A grain as Rust: what `Grain` wants to know, and the checks that its interfaces agree.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::{Path, spanned::Spanned};

use super::model::Answering;
use crate::args;

pub(super) fn expand(grain: &Answering) -> TokenStream {
    let site = Span::mixed_site();
    let Answering { krate, ident, first, .. } = grain;
    let (impl_generics, type_generics, bounds) = grain.generics.split_for_impl();
    let references: Vec<_> = grain.references().collect();
    let interfaces = quote_spanned!(span_of_all(&references)=> (#(#references,)*));
    let checks = pairs(&references).map(|(one, other)| {
        let krate = args::crate_at(krate, other.span());
        let check = quote_spanned!(other.span()=> #krate::__private::check_pair::<#one, #other>());
        quote_spanned!(site=> #[allow(unused_qualifications)] const _: () = #check;)
    });
    let workers = grain.workers.as_ref().map(|max| {
        quote_spanned! {site=>
            const WORKERS: #krate::__private::Option<#krate::__private::Workers> =
                #krate::__private::Option::Some(#krate::__private::Workers::at_most(#max));
        }
    });
    let lifecycle = lifecycle(grain);
    quote_spanned! {site=>
        // `chat::Room` may well be in scope while `chat::RoomRef` is not, or the other way round.
        #[allow(unused_qualifications)]
        impl #impl_generics #krate::__private::Grain for #ident #type_generics #bounds {
            type Key = <#first as #krate::__private::Interface>::Key;
            type Interfaces = #interfaces;
            const GRAIN_TYPE: &'static str = <#first as #krate::__private::Interface>::GRAIN_TYPE;
            #workers
        }
        #(#checks)*
        #lifecycle
    }
}

/// What `default` writes.
fn lifecycle(grain: &Answering) -> Option<TokenStream> {
    let Answering { krate, ident, default, .. } = grain;
    let site = Span::mixed_site();
    let (impl_generics, type_generics, bounds) = grain.generics.split_for_impl();
    let value = quote_spanned!(default.as_ref()?.span()=> <Self as #krate::__private::Default>::default());
    Some(quote_spanned! {site=>
        #[allow(unused_qualifications)]
        impl #impl_generics #krate::__private::Lifecycle for #ident #type_generics #bounds {
            async fn activate(
                _: #krate::__private::Ctx<Self>,
            ) -> #krate::__private::Result<Self, #krate::__private::Error> {
                #krate::__private::Result::Ok(#value)
            }
        }
    })
}

/// Where an interface that is not implemented is shown. Spans cannot be joined on stable Rust: of several interfaces, the
/// message says which one.
fn span_of_all(references: &[&Path]) -> Span {
    match references {
        [only] => only.span(),
        _ => Span::call_site(),
    }
}

fn pairs<'p>(references: &'p [&'p Path]) -> impl Iterator<Item = (&'p Path, &'p Path)> {
    let before = |(i, other)| references[..i].iter().map(move |one: &&Path| (*one, other));
    references.iter().copied().enumerate().flat_map(before)
}
