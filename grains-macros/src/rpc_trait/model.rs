//! An interface as the expansion needs it: right by construction, without whatever was reported.

use proc_macro2::Ident;
use quote::format_ident;
use syn::{
    Attribute, FnArg, ItemTrait, LitStr, Path, Safety, Token, TraitItem, Type, TypeParamBound, Visibility,
    ext::IdentExt, parse_quote, punctuated::Punctuated,
};

use super::{
    method::Method,
    options::{Options, is_rpc},
};
use crate::{args, report::Report};

pub(super) struct Interface {
    pub(super) krate: Path,
    pub(super) grain_type: LitStr,
    /// `None` for `String`.
    pub(super) key: Option<Type>,
    pub(super) attributes: Vec<Attribute>,
    pub(super) visibility: Visibility,
    pub(super) ident: Ident,
    pub(super) supertraits: Punctuated<TypeParamBound, Token![+]>,
    pub(super) methods: Vec<Method>,
    pub(super) callers: Callers,
    /// What was reported, kept in the trait so that grains that implement it are not reported, too.
    pub(super) rejected: Vec<TraitItem>,
}

/// Who may call it.
pub(super) enum Callers {
    Grains,
    GrainsAndClients,
}

impl Interface {
    /// The interface `written`, or `None` if mistakes leave nothing to expand.
    pub(super) fn read(options: Options, written: &ItemTrait, report: &mut Report) -> Option<Self> {
        if !is_plain(written, report) {
            return None;
        }
        let ident = &written.ident;
        let mut interface = Self {
            krate: args::crate_or_default(options.krate),
            grain_type: options.grain_type.unwrap_or_else(|| LitStr::new(&kebab_case(ident), ident.span())),
            key: options.key,
            attributes: written.attrs.clone(),
            visibility: written.vis.clone(),
            ident: ident.clone(),
            supertraits: written.supertraits.clone(),
            methods: Vec::new(),
            callers: if options.client.is_some() { Callers::GrainsAndClients } else { Callers::Grains },
            rejected: Vec::new(),
        };
        for item in &written.items {
            interface.add(item, report);
        }
        Some(interface)
    }

    fn add(&mut self, item: &TraitItem, report: &mut Report) {
        let TraitItem::Fn(written) = item else {
            report.under(item, "rpc traits hold methods only: move this out of the trait");
            return self.rejected.push(item.clone());
        };
        match Method::read(written, report) {
            Some(method) => self.add_method(method, report),
            None => self.rejected.push(rejected(item.clone())),
        }
    }

    fn add_method(&mut self, method: Method, report: &mut Report) {
        if self.methods.iter().any(|other| other.ident() == method.ident()) {
            return report.under(method.ident(), "a method of this name is there already: rename one");
        }
        if let Some(other) = self.methods.iter().find(|other| id(&other.name) == id(&method.name)) {
            report.at(method.name.span(), clash(other, &method));
        }
        self.methods.push(method);
    }

    pub(super) fn reference(&self) -> Ident {
        format_ident!("{}Ref", self.ident, span = self.ident.span())
    }

    /// The name of the trait in messages.
    pub(super) fn name(&self) -> String {
        self.ident.unraw().to_string()
    }
}

/// Whether the trait is one that all grains could implement in the same way.
fn is_plain(written: &ItemTrait, report: &mut Report) -> bool {
    let mut mistakes = Report::default();
    if !written.generics.params.is_empty() {
        let message = "rpc traits have no type or lifetime parameters, an address cannot choose them: name the types";
        mistakes.under(&written.generics, message);
    }
    if let Some(bounds) = &written.generics.where_clause {
        mistakes.under(bounds, "rpc traits have no `where`: put bounds behind the name, as in `trait Room: Bound`");
    }
    if let Some(keyword) = &written.unsafety {
        mistakes.under(keyword, "rpc traits are safe to implement: remove `unsafe`");
    }
    if let Some(keyword) = &written.modifiers.auto_token {
        mistakes.under(keyword, "rpc traits are implemented by hand: remove `auto`");
    }
    report.is_unchanged_by(mistakes)
}

fn clash(one: &Method, other: &Method) -> String {
    let (a, b) = (one.ident(), other.ident());
    if one.name.value() == other.name.value() {
        let name = one.name.value();
        format!("methods `{a}` and `{b}` have the same address, \"{name}\": give one another `#[rpc(name = \"..\")]`")
    } else {
        format!(
            "the names of methods `{a}` and `{b}` have the same hash: give one another address with `#[rpc(name = \"..\")]`"
        )
    }
}

/// The same hash as `MethodId::of` in `grains-core`, here to report a clash where it is written.
fn id(name: &LitStr) -> u32 {
    let hash_byte = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    name.value().bytes().fold(0x811c_9dc5, hash_byte)
}

/// The trait without helper attributes, which mean something to this macro only.
pub(super) fn without_rpc(mut written: ItemTrait) -> ItemTrait {
    written.items = written.items.into_iter().map(rejected).collect();
    written
}

/// The item without what the compiler would report a second time.
fn rejected(mut item: TraitItem) -> TraitItem {
    let TraitItem::Fn(method) = &mut item else { return item };
    method.attrs.retain(|attribute| !is_rpc(attribute));
    let signature = &mut method.sig;
    signature.constness = None;
    signature.safety = Safety::Default;
    signature.abi = None;
    signature.generics.make_where_clause().predicates.push(parse_quote!(Self: ::core::marker::Sized));
    for input in &mut signature.inputs {
        match input {
            FnArg::Receiver(receiver) => receiver.mutability = None,
            FnArg::Typed(argument) => *argument.pat = parse_quote!(_),
        }
    }
    item
}

/// `RoomAdmin` as `room-admin`, `HTTPRoom2` as `http-room2`.
fn kebab_case(ident: &Ident) -> String {
    let name: Vec<char> = ident.unraw().to_string().chars().collect();
    let mut kebab = String::new();
    for (i, &c) in name.iter().enumerate() {
        let word_begins = c.is_uppercase()
            && i > 0
            && (!name[i - 1].is_uppercase() || name.get(i + 1).is_some_and(|next| next.is_lowercase()));
        if (word_begins || c == '_') && !kebab.is_empty() && !kebab.ends_with('-') {
            kebab.push('-');
        }
        if c != '_' {
            kebab.extend(c.to_lowercase());
        }
    }
    kebab
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_name_are_joined_by_dashes() {
        for (name, kebab) in [
            ("Room", "room"),
            ("RoomAdmin", "room-admin"),
            ("HTTPRoom", "http-room"),
            ("RoomV2", "room-v2"),
            ("Room_Admin", "room-admin"),
            ("r#Room", "room"),
        ] {
            let ident = syn::parse_str::<Ident>(name).unwrap();
            assert_eq!(kebab_case(&ident), kebab);
        }
    }
}
