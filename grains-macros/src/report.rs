//! The mistakes found in one use of a macro. Every model adds to it, and [`lib`](crate) shows them all in one compile.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::{Error, Item};

/// Mistakes, each with the token it is about and its fix.
#[derive(Default)]
pub(crate) struct Report(Option<Error>);

impl Report {
    /// Adds a mistake shown under all of `tokens`.
    pub(crate) fn under(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.add(Error::new_spanned(tokens, message));
    }

    /// Adds a mistake shown at `span`.
    pub(crate) fn at(&mut self, span: Span, message: impl Display) {
        self.add(Error::new(span, message));
    }

    /// Adds `error`, which says that `item` could not be read, in other words if it only is of the wrong sort.
    pub(crate) fn wrong_item(&mut self, item: TokenStream, error: Error, message: &str) {
        match syn::parse2::<Item>(item) {
            Ok(_) => self.at(error.span(), message),
            Err(_) => self.add(error),
        }
    }

    pub(crate) fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// Adds what `other` has found, and says whether that was nothing.
    pub(crate) fn is_unchanged_by(&mut self, other: Report) -> bool {
        match other.0 {
            Some(error) => {
                self.add(error);
                false
            }
            None => true,
        }
    }

    /// The value, or its error added here.
    pub(crate) fn ok<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }
}

impl ToTokens for Report {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.0.as_ref().map(Error::to_compile_error));
    }
}
