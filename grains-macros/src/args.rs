//! What stands in the brackets of an attribute: words, `word = value`, commas. All models read theirs with these.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Error, LitStr, Path, Result, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
};

use crate::report::Report;

/// Reads arguments one by one with `read_one`; after a mistake it goes on behind the next comma.
pub(crate) fn read_each(
    args: TokenStream,
    report: &mut Report,
    mut read_one: impl FnMut(ParseStream<'_>) -> Result<()>,
) {
    let read_all = |input: ParseStream<'_>| {
        while !input.is_empty() {
            if let Err(mistake) = read_one(input).and_then(|()| read_comma(input)) {
                report.add(mistake);
                skip_behind_comma(input)?;
            }
        }
        Ok(())
    };
    let read = read_all.parse2(args);
    report.ok(read);
}

fn read_comma(input: ParseStream<'_>) -> Result<()> {
    if input.peek(Token![=]) {
        return Err(input.error("this option takes no value: remove it"));
    }
    if !input.is_empty() {
        input.parse::<Token![,]>()?;
    }
    Ok(())
}

fn skip_behind_comma(input: ParseStream<'_>) -> Result<()> {
    while !input.is_empty() {
        let skipped = input.parse::<TokenTree>()?;
        if matches!(skipped, TokenTree::Punct(punct) if punct.as_char() == ',') {
            break;
        }
    }
    Ok(())
}

/// The next word, a keyword or not.
pub(crate) fn word(input: ParseStream<'_>) -> Result<Ident> {
    input.call(Ident::parse_any)
}

/// Reads `= value` behind `word` with `read`. `example` shows how it is written.
pub(crate) fn value<T>(
    input: ParseStream<'_>,
    word: &Ident,
    example: &str,
    read: impl FnOnce(ParseStream<'_>) -> Result<T>,
) -> Result<T> {
    let missing = |span: Span| Error::new(span, format!("`{word}` needs a value: write `{example}`"));
    if !input.peek(Token![=]) {
        return Err(missing(word.span()));
    }
    let equals = input.parse::<Token![=]>()?;
    if input.is_empty() || input.peek(Token![,]) {
        return Err(missing(equals.span));
    }
    read(input).map_err(|error| Error::new(error.span(), format!("not a value of `{word}`: write `{example}`")))
}

/// Reads `= "text"` behind `word`; the text is not empty.
pub(crate) fn text(input: ParseStream<'_>, word: &Ident, example: &str) -> Result<LitStr> {
    let text: LitStr = value(input, word, example, |input| input.parse())?;
    if text.value().is_empty() {
        return Err(Error::new(text.span(), format!("`{word}` cannot be empty: write `{example}`")));
    }
    Ok(text)
}

/// Reads `= path` behind `crate`.
pub(crate) fn crate_path(input: ParseStream<'_>, word: &Ident) -> Result<Path> {
    value(input, word, "crate = path::to::grains", Path::parse_mod_style).map(ours)
}

/// The path as if the macro had written it where it stands: what is written with it is not linted as the user's code.
/// `$crate` keeps the crate it means.
fn ours(mut path: Path) -> Path {
    let ours = |span| Span::mixed_site().located_at(span);
    for segment in path.segments.iter_mut().filter(|segment| segment.ident != "$crate") {
        segment.ident.set_span(ours(segment.ident.span()));
    }
    if let Some(colons) = &mut path.leading_colon {
        colons.spans = colons.spans.map(ours);
    }
    path
}

/// Keeps `value` as what `word` said, unless it said something before.
pub(crate) fn set_once<T>(slot: &mut Option<T>, word: &Ident, value: T) -> Result<()> {
    match slot.replace(value) {
        Some(_) => Err(Error::new(word.span(), format!("`{word}` is given twice: remove one"))),
        None => Ok(()),
    }
}

/// The error for a word that means nothing here. `known` lists those that do.
pub(crate) fn unknown(word: &Ident, known: &str) -> Error {
    Error::new(word.span(), format!("unknown option `{word}`: there is {known}"))
}

/// `krate` as if it was written at `span`: errors about what is called there are shown there.
pub(crate) fn crate_at(krate: &Path, span: Span) -> TokenStream {
    let located = |mut tree: TokenTree| {
        tree.set_span(tree.span().located_at(span));
        tree
    };
    krate.to_token_stream().into_iter().map(located).collect()
}

/// How the `grains` crate is called where nothing else was said.
pub(crate) fn crate_or_default(said: Option<Path>) -> Path {
    said.unwrap_or_else(|| {
        let site = Span::mixed_site();
        syn::parse_quote_spanned!(site=> ::grains)
    })
}
