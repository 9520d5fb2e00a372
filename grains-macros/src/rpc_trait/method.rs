//! One method of an interface, as the expansion needs it.

use proc_macro2::Ident;
use syn::{
    Attribute, FnArg, LitStr, Pat, PatType, ReceiverKind, ReturnType, Safety, Signature, TraitItemFn, Type,
    ext::IdentExt, spanned::Spanned,
};

use super::{
    options::{MethodOptions, is_rpc},
    owned,
};
use crate::report::Report;

/// A method that can be called.
pub(super) struct Method {
    /// What stands before it, except `#[rpc(..)]`.
    pub(super) attributes: Vec<Attribute>,
    /// As written.
    pub(super) signature: Signature,
    pub(super) access: Access,
    pub(super) arguments: Vec<Argument>,
    pub(super) reply: Type,
    /// Its name in the address.
    pub(super) name: LitStr,
    pub(super) repeats: Repeats,
}

pub(super) enum Access {
    Shared,
    Exclusive,
}

/// Whether a call may be repeated when nobody knows if it ran.
pub(super) enum Repeats {
    Idempotent,
    NotSaid,
}

pub(super) struct Argument {
    pub(super) ident: Ident,
    pub(super) ty: Type,
}

impl Method {
    /// The method `written`, or `None` if there is something to report.
    pub(super) fn read(written: &TraitItemFn, report: &mut Report) -> Option<Self> {
        let mut mistakes = Report::default();
        let options = MethodOptions::read(&written.attrs, &mut mistakes);
        check_attributes(&written.attrs, &mut mistakes);
        check_shape(written, &mut mistakes);
        let signature = &written.sig;
        let access = access(signature, &mut mistakes);
        let arguments = signature.inputs.iter().filter_map(|input| Argument::read(input, &mut mistakes)).collect();
        let reply = reply(signature, &mut mistakes);
        if !report.is_unchanged_by(mistakes) {
            return None;
        }
        Some(Self {
            attributes: written.attrs.iter().filter(|attribute| !is_rpc(attribute)).cloned().collect(),
            access: access?,
            arguments,
            reply: reply?,
            name: options.name.unwrap_or_else(|| plain_name(&signature.ident)),
            repeats: if options.idempotent.is_some() { Repeats::Idempotent } else { Repeats::NotSaid },
            signature: signature.clone(),
        })
    }

    pub(super) fn ident(&self) -> &Ident {
        &self.signature.ident
    }

    pub(super) fn attributes_called(&self, name: &str) -> Vec<&Attribute> {
        self.attributes.iter().filter(|attribute| attribute.path().is_ident(name)).collect()
    }
}

fn check_attributes(attributes: &[Attribute], report: &mut Report) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")) {
        let message = "an interface is the same in every build, so its methods have no `#[cfg]`: put the method into a \
                       trait of its own and `#[cfg]` on that, a grain can answer several";
        report.under(attribute, message);
    }
}

fn check_shape(written: &TraitItemFn, report: &mut Report) {
    let signature = &written.sig;
    let name = &signature.ident;
    if signature.asyncness.is_none() {
        report.under(signature.fn_token, format!("rpc methods are async: write `async fn {name}`"));
    }
    if let Some(constness) = &signature.constness {
        report.under(constness, "rpc methods run on another machine, they cannot be `const`: remove it");
    }
    if let Safety::Unsafe(keyword) = &signature.safety {
        report.under(keyword, "rpc methods are safe to call, whatever the caller sends: remove `unsafe`");
    }
    if let Some(abi) = &signature.abi {
        report.under(abi, "rpc methods are called through grains, not through C: remove `extern`");
    }
    if let Some(body) = &written.default {
        report.under(body, "rpc methods have no default body: write `;` here and move the body to the grain");
    }
    let generics = &signature.generics;
    if !generics.params.is_empty() {
        report.under(
            generics,
            "rpc methods have no type or lifetime parameters, bytes cannot choose them: name the types",
        );
    }
    if let Some(bounds) = &generics.where_clause {
        report.under(bounds, "rpc methods have no `where`: remove it");
    }
}

fn access(signature: &Signature, report: &mut Report) -> Option<Access> {
    const FIX: &str = "rpc methods take `&mut self` (runs alone) or `&self` (runs beside other `&self` calls)";
    let Some(receiver) = signature.receiver() else {
        report.under(&signature.ident, FIX);
        return None;
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, None, None) => Some(Access::Shared),
        ReceiverKind::Reference(_, None, Some(_)) => Some(Access::Exclusive),
        _ => {
            report.under(receiver, FIX);
            None
        }
    }
}

fn reply(signature: &Signature, report: &mut Report) -> Option<Type> {
    match &signature.output {
        ReturnType::Type(_, reply) => {
            check_is_result(reply, report);
            owned::check(reply, "rpc replies", report);
            Some((**reply).clone())
        }
        ReturnType::Default => {
            let name = &signature.ident;
            report
                .under(name, format!("a call can always fail, so `{name}` returns a `Result`: write `-> Result<()>`"));
            None
        }
    }
}

/// Reports types known not to be a `Result`, whatever is in scope. The compiler judges the others by `Reply`.
fn check_is_result(reply: &Type, report: &mut Report) {
    let other = match reply {
        Type::Tuple(_) | Type::Array(_) => true,
        Type::Path(path) => {
            path.path.segments.last().is_some_and(|last| OTHER_TYPES.iter().any(|other| last.ident == other))
        }
        _ => false,
    };
    if other {
        report.under(reply, "a call can always fail, so it returns a `Result`: write `grains::Result<..>` around this");
    }
}

const OTHER_TYPES: [&str; 19] = [
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128",
    "usize", "String", "Vec", "Option",
];

impl Argument {
    fn read(input: &FnArg, report: &mut Report) -> Option<Self> {
        let FnArg::Typed(PatType { attrs, pat, ty, .. }) = input else { return None };
        for attribute in attrs {
            report.under(attribute, "rpc arguments have no attributes: remove it");
        }
        owned::check(ty, "rpc arguments", report);
        match &**pat {
            Pat::Ident(plain) if plain.by_ref.is_none() && plain.mutability.is_none() && plain.subpat.is_none() => {
                Some(Self { ident: plain.ident.clone(), ty: (**ty).clone() })
            }
            pattern => {
                let fix = suggested_name(pattern);
                report.at(pattern.span(), format!("rpc arguments have plain names, seen by callers: write `{fix}`"));
                None
            }
        }
    }
}

fn suggested_name(pattern: &Pat) -> String {
    match pattern {
        Pat::Ident(named) => named.ident.to_string(),
        _ => "name: Type".to_owned(),
    }
}

fn plain_name(ident: &Ident) -> LitStr {
    LitStr::new(&ident.unraw().to_string(), ident.span())
}
