//! `#[rpc_trait]`: options and trait in, [`Interface`](model::Interface), expansion out.

mod expand;
mod method;
mod model;
mod options;
mod owned;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemTrait;

use self::{model::Interface, options::Options};
use crate::report::Report;

pub(crate) fn rpc_trait(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut report = Report::default();
    let options = Options::read(args, &mut report);
    let written = match syn::parse2::<ItemTrait>(item.clone()) {
        Ok(written) => written,
        Err(error) => {
            let message = "`#[rpc_trait]` goes on a trait: its methods are what may be asked of a grain";
            report.wrong_item(item.clone(), error, message);
            return quote!(#report #item);
        }
    };
    match Interface::read(options, &written, &mut report) {
        Some(interface) => {
            let expansion = expand::expand(&interface);
            quote!(#report #expansion)
        }
        None => {
            let written = model::without_rpc(written);
            quote!(#report #written)
        }
    }
}
