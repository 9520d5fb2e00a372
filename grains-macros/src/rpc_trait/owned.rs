//! Types that travel: which ones cannot, as far as their tokens tell. The compiler judges the rest by `Wire`.

use proc_macro2::{Spacing, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Type;

use crate::report::Report;

/// Reports what in `ty` can neither be an argument nor part of a reply; `what` says which of them it is.
pub(super) fn check(ty: &Type, what: &str, report: &mut Report) {
    if let Type::Reference(reference) = ty {
        let fix = owned_form(&reference.elem);
        return report.under(ty, format!("{what} are owned, a reference cannot travel: take {fix}"));
    }
    if let Some((span, mistake)) = first_mistake(ty.to_token_stream()) {
        report.at(span, format!("{what} {mistake}"));
    }
}

/// `Option<&str>` hides its reference from a look at the outermost type, and so do tuples, arrays and generics: the
/// tokens show it in all of them.
fn first_mistake(tokens: TokenStream) -> Option<(Span, &'static str)> {
    let mut tokens = tokens.into_iter();
    while let Some(tree) = tokens.next() {
        let span = tree.span();
        let mistake = match tree {
            TokenTree::Group(group) => match first_mistake(group.stream()) {
                Some(found) => return Some(found),
                None => continue,
            },
            TokenTree::Punct(punct) if punct.as_char() == '&' => BORROW,
            TokenTree::Punct(punct) if punct.as_char() == '\'' && punct.spacing() == Spacing::Joint => {
                match tokens.next() {
                    Some(TokenTree::Ident(lifetime)) if lifetime == "static" => continue,
                    _ => LIFETIME,
                }
            }
            TokenTree::Ident(word) if word == "impl" => IMPL_TRAIT,
            TokenTree::Ident(word) if word == "Self" => SELF_TYPE,
            _ => continue,
        };
        return Some((span, mistake));
    }
    None
}

const BORROW: &str = "are owned, a reference cannot travel: take an owned type, such as `String`";
const LIFETIME: &str = "are owned, a borrow cannot travel: take an owned type, or `'static`";
const IMPL_TRAIT: &str = "have one type each, which both sides know: name it in place of `impl Trait`";
const SELF_TYPE: &str = "cannot be of type `Self`, a grain stays where it is: name another type";

fn owned_form(borrowed: &Type) -> &'static str {
    match borrowed {
        Type::Path(path) if path.path.is_ident("str") => "`String`",
        Type::Slice(_) => "a `Vec`",
        _ => "the type without `&`",
    }
}
