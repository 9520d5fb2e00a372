//! A grain as the expansion needs it: the struct and the interfaces it answers.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, format_ident};
use syn::{Error, Generics, Item, LitInt, Path, Result, Token, ext::IdentExt, parse::ParseStream};

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
    /// How many workers it has on a node, if it has any.
    pub(super) workers: Option<Literal>,
}

/// `grains-core` implements `InterfaceSet` for tuples up to this length.
const INTERFACES_MAX: usize = 8;

/// `Workers::MAX` of `grains-core`.
const WORKERS_MAX: u16 = 1024;

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
            workers: words.workers,
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
    workers: Option<Literal>,
    krate: Option<Path>,
}

impl Words {
    fn read_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        if input.peek(Ident::peek_any) && input.peek2(Token![=]) {
            let word = args::word(input)?;
            return match word.to_string().as_str() {
                "crate" => args::set_once(&mut self.krate, &word, args::crate_path(input, &word)?),
                "workers" => args::set_once(&mut self.workers, &word, workers(input, &word)?),
                _ => Err(args::unknown(&word, OPTIONS)),
            };
        }
        let path = input.call(Path::parse_mod_style).map_err(|error| Error::new(error.span(), NOT_A_TRAIT))?;
        if input.peek(Token![<]) {
            return Err(Error::new_spanned(path, "rpc traits have no type parameters: write the name alone"));
        }
        match path.get_ident() {
            // Without its number, which is said where it is missing.
            Some(word) if word == "workers" => workers(input, word).map(drop),
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

fn workers(input: ParseStream<'_>, word: &Ident) -> Result<Literal> {
    const EXAMPLE: &str = "workers = 8";
    let number: LitInt = args::value(input, word, EXAMPLE, |input| input.parse())?;
    match number.base10_parse::<u16>() {
        Ok(0) => {
            Err(Error::new(number.span(), "a grain without workers could not be called: write `workers = 1` or more"))
        }
        Ok(workers @ 1..=WORKERS_MAX) => Ok(Literal::u16_unsuffixed(workers)),
        Ok(_) | Err(_) => {
            let message = format!("a grain has 1 to {WORKERS_MAX} workers on a node: write `{EXAMPLE}`");
            Err(Error::new(number.span(), message))
        }
    }
}

const OPTIONS: &str = "`default`, `workers = 8` and `crate = path`, beside the names of traits";
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
