//! A grain as the expansion needs it: the struct and the interfaces it answers.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident};
use syn::{Error, Generics, Item, Path, Result, Token, ext::IdentExt, parse::ParseStream};

use crate::{args, report::Report};

pub(super) struct Answering {
    pub(super) krate: Path,
    pub(super) ident: Ident,
    pub(super) generics: Generics,
    /// The reference types of the interfaces: at least one, at most eight.
    pub(super) first: Path,
    pub(super) others: Vec<Path>,
    /// The word `default`, if it was said.
    pub(super) default: Option<Ident>,
}

/// `grains-core` implements `InterfaceSet` for tuples up to this length.
const INTERFACES_MAX: usize = 8;

impl Answering {
    pub(super) fn read(tokens: TokenStream, item: TokenStream, report: &mut Report) -> Option<Self> {
        let mut words = Words::default();
        args::read_each(tokens, report, |input| words.read_one(input));
        if words.traits.is_empty() {
            report.at(Span::call_site(), "a grain answers at least one interface: name it, as in `#[grain(Room)]`");
        }
        if let Some(ninth) = words.traits.get(INTERFACES_MAX) {
            let message = format!("a grain answers at most {INTERFACES_MAX} interfaces: join some, or make two grains");
            report.under(ninth, message);
        }
        let written = report.ok(syn::parse2(item))?;
        let Item::Struct(written) = written else {
            report.at(keyword(&written), "a grain is a struct: put this into a field of one");
            return None;
        };
        let mut references = words.traits.into_iter().take(INTERFACES_MAX).map(reference);
        Some(Self {
            krate: args::crate_or_default(words.krate),
            ident: written.ident,
            generics: written.generics,
            first: references.next()?,
            others: references.collect(),
            default: words.default,
        })
    }

    /// All reference types, in the order written.
    pub(super) fn references(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// What stands in `#[grain(..)]`.
#[derive(Default)]
struct Words {
    traits: Vec<Path>,
    default: Option<Ident>,
    krate: Option<Path>,
}

impl Words {
    fn read_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        if input.peek(Ident::peek_any) && input.peek2(Token![=]) {
            let word = args::word(input)?;
            return match word == "crate" {
                true => args::set_once(&mut self.krate, &word, args::crate_path(input, &word)?),
                false => Err(args::unknown(&word, OPTIONS)),
            };
        }
        let path = input.call(Path::parse_mod_style).map_err(|error| Error::new(error.span(), NOT_A_TRAIT))?;
        if input.peek(Token![<]) {
            return Err(Error::new_spanned(path, "rpc traits have no type parameters: write the name alone"));
        }
        match path.get_ident() {
            Some(word) if word == "default" => args::set_once(&mut self.default, word, word.clone()),
            Some(word) if word.to_string().starts_with(char::is_lowercase) => Err(args::unknown(word, OPTIONS)),
            _ => self.add_trait(path),
        }
    }

    fn add_trait(&mut self, path: Path) -> Result<()> {
        let text = |path: &Path| path.to_token_stream().to_string();
        if self.traits.iter().any(|other| text(other) == text(&path)) {
            return Err(Error::new_spanned(&path, format!("`{}` is named twice: remove one", text(&path))));
        }
        self.traits.push(path);
        Ok(())
    }
}

const OPTIONS: &str = "`default` and `crate = path`, beside the names of traits";
const NOT_A_TRAIT: &str = "not the name of an `#[rpc_trait]` trait: write `#[grain(Room, RoomAdmin)]`";

/// `chat::Room` as `chat::RoomRef`.
fn reference(mut interface: Path) -> Path {
    if let Some(last) = interface.segments.last_mut() {
        last.ident = format_ident!("{}Ref", last.ident, span = last.ident.span());
    }
    interface
}

fn keyword(item: &Item) -> Span {
    match item {
        Item::Enum(item) => item.enum_token.span,
        Item::Union(item) => item.union_token.span,
        _ => Span::call_site(),
    }
}
