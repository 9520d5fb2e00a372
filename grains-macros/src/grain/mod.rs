//! `#[grain]`: words and struct in, [`Answering`](model::Answering), expansion out.

mod expand;
mod model;

use proc_macro2::TokenStream;
use quote::quote;

use self::model::Answering;
use crate::report::Report;

pub(crate) fn grain(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut report = Report::default();
    let expansion = Answering::read(args, item.clone(), &mut report).map(|grain| expand::expand(&grain));
    quote!(#report #item #expansion)
}
