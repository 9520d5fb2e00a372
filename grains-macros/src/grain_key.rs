//! `#[derive(GrainKey)]`: a struct of keys is a key.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Fields, Generics, Item, ItemStruct, Member, Meta, Path, Type, parse_quote_spanned, spanned::Spanned,
};

use crate::{args, report::Report};

pub(crate) fn grain_key(item: TokenStream) -> TokenStream {
    let mut report = Report::default();
    let expansion = Key::read(item, &mut report).map(|key| expand(&key));
    quote!(#report #expansion)
}

struct Key {
    krate: Path,
    ident: Ident,
    generics: Generics,
    fields: Vec<(Member, Type)>,
}

impl Key {
    fn read(item: TokenStream, report: &mut Report) -> Option<Self> {
        let written = match report.ok(syn::parse2(item))? {
            Item::Struct(written) => written,
            Item::Enum(other) => return refuse(other.enum_token.span, report),
            Item::Union(other) => return refuse(other.union_token.span, report),
            _ => return refuse(Span::call_site(), report),
        };
        let krate = args::crate_or_default(crate_path(&written.attrs, report));
        if let Some(lifetime) = written.generics.lifetimes().next() {
            report.under(lifetime, "a grain key is owned: remove the lifetime and hold `String` in place of `&str`");
            return None;
        }
        Some(Self {
            fields: fields(&written),
            ident: written.ident,
            generics: with_keys_for_parameters(written.generics, &krate),
            krate,
        })
    }
}

fn refuse(keyword: Span, report: &mut Report) -> Option<Key> {
    report.at(keyword, "a derived grain key is a struct: use one, or `impl GrainKey` by hand");
    None
}

fn crate_path(attributes: &[Attribute], report: &mut Report) -> Option<Path> {
    let mut krate = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("grain_key")) {
        match &attribute.meta {
            Meta::List(list) => args::read_each(list.tokens.clone(), report, |input| {
                let word = args::word(input)?;
                match word == "crate" {
                    true => args::set_once(&mut krate, &word, args::crate_path(input, &word)?),
                    false => Err(args::unknown(&word, "`crate = path`")),
                }
            }),
            other => report.at(other.span(), "`#[grain_key]` needs an option: there is `crate = path`"),
        }
    }
    krate
}

fn fields(written: &ItemStruct) -> Vec<(Member, Type)> {
    let types = match &written.fields {
        Fields::Named(fields) => &fields.named,
        Fields::Unnamed(fields) => &fields.unnamed,
        Fields::Unit => return Vec::new(),
    };
    written.fields.members().zip(types.iter().map(|field| field.ty.clone())).collect()
}

fn with_keys_for_parameters(mut generics: Generics, krate: &Path) -> Generics {
    let parameters: Vec<_> = generics.type_params().map(|parameter| parameter.ident.clone()).collect();
    for parameter in parameters {
        let site = Span::mixed_site();
        let bound = parse_quote_spanned!(site=> #parameter: #krate::__private::GrainKey);
        generics.make_where_clause().predicates.push(bound);
    }
    generics
}

fn expand(key: &Key) -> TokenStream {
    let site = Span::mixed_site();
    let Key { krate, ident, .. } = key;
    let (impl_generics, type_generics, bounds) = key.generics.split_for_impl();
    // Each field by its type's own token: a field that is not a key is reported there.
    let writes = key.fields.iter().map(|(field, ty)| {
        let write = quote_spanned!(ty.span()=> <#ty as #krate::__private::GrainKey>::write);
        quote_spanned!(site=> #write(&self.#field, parts);)
    });
    let reads = key.fields.iter().map(|(field, ty)| {
        let read = quote_spanned!(ty.span()=> <#ty as #krate::__private::GrainKey>::read);
        quote_spanned!(site=> #field: #read(parts)?)
    });
    quote_spanned! {site=>
        #[automatically_derived]
        impl #impl_generics #krate::__private::GrainKey for #ident #type_generics #bounds {
            fn write(&self, parts: &mut #krate::__private::KeyWriter) {
                #(#writes)*
            }
            fn read(
                parts: &mut #krate::__private::KeyReader<'_>,
            ) -> #krate::__private::Result<Self, #krate::__private::KeyError> {
                #krate::__private::Result::Ok(Self { #(#reads),* })
            }
        }
        #[automatically_derived]
        impl #impl_generics #krate::__private::KeyFrom<Self> for #ident #type_generics #bounds {
            fn key_from(key: Self) -> Self {
                key
            }
        }
    }
}
