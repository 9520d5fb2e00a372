//! The options of `#[rpc_trait(..)]` and of `#[rpc(..)]`.

use proc_macro2::TokenStream;
use syn::{Attribute, Error, LitStr, Meta, Path, Result, Type, parse::ParseStream, spanned::Spanned};

use crate::{args, report::Report};

/// What stands in `#[rpc_trait(..)]`.
#[derive(Default)]
pub(super) struct Options {
    pub(super) grain_type: Option<LitStr>,
    pub(super) key: Option<Type>,
    pub(super) krate: Option<Path>,
    pub(super) client: Option<()>,
}

impl Options {
    pub(super) fn read(tokens: TokenStream, report: &mut Report) -> Self {
        let mut options = Self::default();
        args::read_each(tokens, report, |input| options.read_one(input));
        options
    }

    fn read_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let word = args::word(input)?;
        match word.to_string().as_str() {
            "grain_type" => {
                args::set_once(&mut self.grain_type, &word, grain_type(args::text(input, &word, GRAIN_TYPE)?)?)
            }
            "key" => {
                args::set_once(&mut self.key, &word, args::value(input, &word, "key = u64", |input| input.parse())?)
            }
            "crate" => args::set_once(&mut self.krate, &word, args::crate_path(input, &word)?),
            "client" => args::set_once(&mut self.client, &word, ()),
            _ => Err(args::unknown(&word, "`grain_type = \"..\"`, `key = Type`, `client` and `crate = path`")),
        }
    }
}

fn grain_type(text: LitStr) -> Result<LitStr> {
    if text.value().contains('/') {
        let message = "a grain type has no `/`, it stands before the key in `type/key`: write `-` in its place";
        return Err(Error::new(text.span(), message));
    }
    Ok(text)
}

const GRAIN_TYPE: &str = "grain_type = \"room\"";

/// What stands in the `#[rpc(..)]` attributes of one method.
#[derive(Default)]
pub(super) struct MethodOptions {
    pub(super) name: Option<LitStr>,
    pub(super) idempotent: Option<()>,
}

impl MethodOptions {
    pub(super) fn read(attributes: &[Attribute], report: &mut Report) -> Self {
        let mut options = Self::default();
        for attribute in attributes.iter().filter(|attribute| is_rpc(attribute)) {
            match &attribute.meta {
                Meta::List(list) => args::read_each(list.tokens.clone(), report, |input| options.read_one(input)),
                other => report.at(other.span(), format!("`#[rpc]` needs an option: there is {KNOWN}")),
            }
        }
        options
    }

    fn read_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let word = args::word(input)?;
        match word.to_string().as_str() {
            "name" => args::set_once(&mut self.name, &word, args::text(input, &word, "name = \"old_name\"")?),
            "idempotent" => args::set_once(&mut self.idempotent, &word, ()),
            _ => Err(args::unknown(&word, KNOWN)),
        }
    }
}

const KNOWN: &str = "`name = \"..\"` and `idempotent`";

/// Whether this is the helper attribute `#[rpc]`.
pub(super) fn is_rpc(attribute: &Attribute) -> bool {
    attribute.path().is_ident("rpc")
}
