//! `#[grains::main]`: a plain `main` around the async one.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Error, ItemFn, LitInt, Path, Result, Safety, Signature, parse::ParseStream};

use crate::{args, report::Report};

pub(crate) fn main_fn(args: TokenStream, item: TokenStream) -> TokenStream {
    let mut report = Report::default();
    match Main::read(args, item.clone(), &mut report) {
        Some(main) => {
            let expansion = expand(&main);
            quote!(#report #expansion)
        }
        None => {
            let rest = without_async_main(item);
            quote!(#report #rest)
        }
    }
}

/// What was reported, in a form the compiler does not report again: it would for an `async fn main`.
fn without_async_main(item: TokenStream) -> TokenStream {
    match syn::parse2::<ItemFn>(item.clone()) {
        Ok(written) if written.sig.ident == "main" => quote! {
            #[allow(dead_code)]
            fn main() {
                #item
            }
        },
        _ => item,
    }
}

struct Main {
    options: Options,
    written: ItemFn,
}

#[derive(Default)]
struct Options {
    worker_threads: Option<Literal>,
    krate: Option<Path>,
}

impl Options {
    fn read_one(&mut self, input: ParseStream<'_>) -> Result<()> {
        let word = args::word(input)?;
        match word.to_string().as_str() {
            "worker_threads" => args::set_once(&mut self.worker_threads, &word, worker_threads(input, &word)?),
            "crate" => args::set_once(&mut self.krate, &word, args::crate_path(input, &word)?),
            _ => Err(args::unknown(&word, "`worker_threads = 4` and `crate = path`")),
        }
    }
}

fn worker_threads(input: ParseStream<'_>, word: &Ident) -> Result<Literal> {
    const EXAMPLE: &str = "worker_threads = 4";
    let number: LitInt = args::value(input, word, EXAMPLE, |input| input.parse())?;
    match number.base10_parse::<usize>() {
        Ok(0) => Err(Error::new(number.span(), "turns need at least one thread: write `worker_threads = 1`")),
        Ok(threads) => Ok(Literal::usize_unsuffixed(threads)),
        Err(_) => Err(Error::new(number.span(), format!("not a number of threads: write `{EXAMPLE}`"))),
    }
}

impl Main {
    fn read(args: TokenStream, item: TokenStream, report: &mut Report) -> Option<Self> {
        let mut options = Options::default();
        args::read_each(args, report, |input| options.read_one(input));
        let written = match syn::parse2::<ItemFn>(item.clone()) {
            Ok(written) => written,
            Err(error) => {
                report.wrong_item(item, error, "`#[grains::main]` goes on `async fn main()`");
                return None;
            }
        };
        let mut mistakes = Report::default();
        check(&written.sig, &mut mistakes);
        report.is_unchanged_by(mistakes).then_some(Self { options, written })
    }
}

fn check(signature: &Signature, report: &mut Report) {
    let name = &signature.ident;
    if name != "main" {
        report.under(name, "`#[grains::main]` makes the entry of a program: call this `main`, or remove the attribute");
    }
    if signature.asyncness.is_none() {
        report.under(signature.fn_token, "only an async `main` needs a runtime: write `async fn main`");
    }
    if !signature.inputs.is_empty() {
        report.under(&signature.inputs, "`main` has no arguments: read `std::env::args()` in its body");
    }
    if !signature.generics.params.is_empty() {
        report.under(&signature.generics, "`main` has no type or lifetime parameters: remove them");
    }
    if let Some(bounds) = &signature.generics.where_clause {
        report.under(bounds, "`main` has no `where`: remove it");
    }
    if let Safety::Unsafe(keyword) = &signature.safety {
        report.under(keyword, "nobody calls `main`, it cannot be `unsafe`: remove it");
    }
    if let Some(abi) = &signature.abi {
        report.under(abi, "nobody calls `main`, it cannot be `extern`: remove it");
    }
}

/// The async function stays as written, inside a plain one of the same name.
fn expand(main: &Main) -> TokenStream {
    let site = Span::mixed_site();
    let ItemFn { attrs, vis, sig, block, .. } = &main.written;
    let (name, reply) = (&sig.ident, &sig.output);
    let krate = args::crate_or_default(main.options.krate.clone());
    let worker_threads = match &main.options.worker_threads {
        Some(number) => quote_spanned!(site=> #krate::__private::Option::Some(#number)),
        None => quote_spanned!(site=> #krate::__private::Option::None),
    };
    quote_spanned! {site=>
        #(#attrs)*
        #vis fn #name() #reply {
            #sig #block
            #krate::__private::run_main(#worker_threads, #name())
        }
    }
}
