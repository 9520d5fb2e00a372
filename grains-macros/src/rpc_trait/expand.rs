//! An interface as Rust: the trait, the reference, and per method the type that carries its arguments.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, format_ident, quote_spanned};
use syn::{Path, ReturnType, Type, ext::IdentExt, spanned::Spanned};

use super::{
    method::{Access, Method, Repeats},
    model::{Callers, Interface},
};
use crate::args;

// All code is made at `mixed_site`, so that no name of an argument can be taken for one of ours. Types have no hygiene:
// ours are called `Room_say`, `__Grain` and `__Turns`, which nobody writes.

pub(super) fn expand(interface: &Interface) -> TokenStream {
    let site = Span::mixed_site();
    let interface_trait = interface_trait(interface);
    let reference = reference(interface);
    let method_types = interface.methods.iter().map(|method| method_type(interface, method));
    let calls = calls(interface);
    let as_interface = as_interface(interface);
    let answers = answers(interface);
    quote_spanned! {site=>
        #interface_trait
        #reference
        // Linted where they are written, in the trait.
        #[allow(
            clippy::all, clippy::pedantic, dead_code, deprecated, non_camel_case_types, private_bounds,
            private_interfaces, unused_qualifications
        )]
        const _: () = {
            #(#method_types)*
            #calls
            #as_interface
            #answers
        };
    }
}

fn interface_trait(interface: &Interface) -> TokenStream {
    let site = Span::mixed_site();
    let Interface { krate, attributes, visibility, ident, supertraits, rejected, .. } = interface;
    let written = (!supertraits.is_empty()).then(|| quote_spanned!(site=> #supertraits +));
    let methods = interface.methods.iter().map(|method| {
        let (attributes, reply) = (&method.attributes, &method.reply);
        let mut signature = method.signature.clone();
        signature.asyncness = None;
        signature.output = ReturnType::Default;
        let output = future_of(krate, reply);
        quote_spanned!(site=> #(#attributes)* #signature #output;)
    });
    let reported = (!rejected.is_empty()).then(|| quote_spanned!(site=> #[allow(async_fn_in_trait)]));
    quote_spanned! {site=>
        #(#attributes)*
        #reported
        #visibility trait #ident: #written 'static {
            #(#methods)*
            #(#rejected)*
        }
    }
}

/// `-> impl Future<Output = #reply> + Send`, shown under `reply` by errors about it.
fn future_of(krate: &Path, reply: &Type) -> TokenStream {
    let krate = args::crate_at(krate, reply.span());
    quote_spanned! {reply.span()=>
        -> impl #krate::__private::Future<Output = #reply> + #krate::__private::Send
    }
}

fn reference(interface: &Interface) -> TokenStream {
    let site = Span::mixed_site();
    let Interface { krate, visibility, .. } = interface;
    let (name, reference) = (interface.name(), interface.reference());
    let doc =
        format!("This calls one grain that answers [`{name}`], wherever it is: cheap to clone, and it can be sent.");
    quote_spanned! {site=>
        #[doc = #doc]
        #[derive(
            #krate::__private::Clone, #krate::__private::PartialEq, #krate::__private::Eq, #krate::__private::Hash,
            #krate::__private::Debug
        )]
        #visibility struct #reference(#krate::__private::RawRef);

        impl #krate::__private::serde::Serialize for #reference {
            fn serialize<S: #krate::__private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> #krate::__private::Result<S::Ok, S::Error> {
                #krate::__private::serialize_ref(self, serializer)
            }
        }
        impl<'de> #krate::__private::serde::Deserialize<'de> for #reference {
            fn deserialize<D: #krate::__private::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> #krate::__private::Result<Self, D::Error> {
                #krate::__private::deserialize_ref(deserializer)
            }
        }
    }
}

/// The name of the type that is method `say` of `Room`: `Room_say`.
fn method_ident(interface: &Interface, method: &Method) -> Ident {
    format_ident!("{}_{}", interface.ident, method.ident().unraw(), span = Span::mixed_site())
}

fn method_type(interface: &Interface, method: &Method) -> TokenStream {
    let site = Span::mixed_site();
    let Interface { krate, visibility, ident: interface_trait, .. } = interface;
    let (ident, ty, reply, name) = (method.ident(), method_ident(interface, method), &method.reply, &method.name);
    let (access, receiver) = match method.access {
        Access::Shared => (quote_spanned!(site=> Shared), quote_spanned!(site=> &'g __Grain)),
        Access::Exclusive => (quote_spanned!(site=> Exclusive), quote_spanned!(site=> &'g mut __Grain)),
    };
    let idempotent = match method.repeats {
        Repeats::Idempotent => Some(quote_spanned!(site=> .idempotent())),
        Repeats::NotSaid => None,
    };
    let argument_types: Vec<_> = method.arguments.iter().map(|argument| &argument.ty).collect();
    let argument_names = method.arguments.iter().map(|argument| argument.ident.unraw().to_string());
    let fields: Vec<_> = (0..argument_types.len()).map(Literal::usize_unsuffixed).collect();
    let len = Literal::u32_suffixed(u32::try_from(fields.len()).unwrap_or(u32::MAX));
    // Under the user's own token, and the same where it is written and read: a type that cannot be sent is reported once.
    let argument = argument_types.iter().map(|ty| {
        let krate = args::crate_at(krate, ty.span());
        quote_spanned!(ty.span()=> #krate::__private::argument::<#ty>())
    });
    let argument: Vec<_> = argument.collect();
    let reply_type = quote_spanned!(reply.span()=> type Reply = #reply;);
    quote_spanned! {site=>
        #visibility struct #ty(#(#argument_types),*);

        impl #krate::__private::Method for #ty {
            const INFO: #krate::__private::MethodInfo =
                #krate::__private::MethodInfo::new(#name, #krate::__private::AccessKind::#access)#idempotent;
            type Access = #krate::__private::#access;
            #reply_type
            fn encode_args(
                &self,
                args: &mut #krate::__private::ArgsWriter<'_>,
            ) -> #krate::__private::Result<(), #krate::__private::CodecError> {
                #krate::__private::ArgsWriter::len(args, #len)?;
                #((#argument.write)(args, &self.#fields)?;)*
                #krate::__private::Result::Ok(())
            }
            fn decode_args(
                args: &mut #krate::__private::ArgsReader<'_>,
            ) -> #krate::__private::Result<Self, #krate::__private::CodecError> {
                #krate::__private::Result::Ok(Self(#((#argument.read)(args, #argument_names)?),*))
            }
            fn weigh(&self, weigher: &mut #krate::__private::Weigher) {
                #((#argument.weigh)(weigher, &self.#fields);)*
            }
        }
        impl<__Grain: #interface_trait> #krate::__private::AnsweredBy<__Grain> for #ty {
            fn answer<'g>(
                self,
                grain: #receiver,
            ) -> impl #krate::__private::Future<Output = #reply> + #krate::__private::Send + 'g
            where
                __Grain: 'g,
            {
                <__Grain as #interface_trait>::#ident(grain, #(self.#fields),*)
            }
        }
    }
}

/// The methods of the reference.
fn calls(interface: &Interface) -> TokenStream {
    let site = Span::mixed_site();
    let Interface { krate, visibility, .. } = interface;
    let reference = interface.reference();
    let calls = interface.methods.iter().map(|method| {
        let (ident, ty, docs) = (method.ident(), method_ident(interface, method), docs(interface, method));
        let names: Vec<_> = method.arguments.iter().map(|argument| &argument.ident).collect();
        let types = method.arguments.iter().map(|argument| &argument.ty);
        let call = call_type(krate, method, &ty);
        quote_spanned! {site=>
            #docs
            #visibility fn #ident(&self, #(#names: #types),*) -> #call {
                #krate::__private::RawRef::call(&self.0, #ty(#(#names),*))
            }
        }
    });
    quote_spanned! {site=>
        impl #reference {
            #(#calls)*
        }
    }
}

/// `Call<Room_say>`, shown under the reply type by errors about it.
fn call_type(krate: &Path, method: &Method, ty: &Ident) -> TokenStream {
    let span = method.reply.span();
    let krate = args::crate_at(krate, span);
    quote_spanned!(span=> #krate::__private::Call<#ty>)
}

/// What was written for callers to read, or a line, for crates that deny methods without any.
fn docs(interface: &Interface, method: &Method) -> TokenStream {
    let site = Span::mixed_site();
    let (docs, deprecated) = (method.attributes_called("doc"), method.attributes_called("deprecated"));
    if docs.is_empty() {
        let doc = format!("Calls [`{}::{}`].", interface.name(), method.ident());
        return quote_spanned!(site=> #[doc = #doc] #(#deprecated)*);
    }
    quote_spanned!(site=> #(#docs)* #(#deprecated)*)
}

fn as_interface(interface: &Interface) -> TokenStream {
    let site = Span::mixed_site();
    let Interface { krate, grain_type, .. } = interface;
    let (name, reference) = (interface.name(), interface.reference());
    let key = match &interface.key {
        Some(key) => key.to_token_stream(),
        None => quote_spanned!(site=> #krate::__private::String),
    };
    let types = interface.methods.iter().map(|method| method_ident(interface, method));
    let for_clients = match interface.callers {
        Callers::Grains => None,
        Callers::GrainsAndClients => Some(quote_spanned!(site=> const FOR_CLIENTS: bool = true;)),
    };
    quote_spanned! {site=>
        impl #krate::__private::Interface for #reference {
            const GRAIN_TYPE: &'static str = #grain_type;
            const NAME: &'static str = #name;
            const METHODS: &'static [#krate::__private::MethodInfo] =
                &[#(<#types as #krate::__private::Method>::INFO),*];
            #for_clients
            type Key = #key;
            fn from_raw(raw: #krate::__private::RawRef) -> Self {
                Self(raw)
            }
            fn as_raw(&self) -> &#krate::__private::RawRef {
                &self.0
            }
        }
    }
}

fn answers(interface: &Interface) -> TokenStream {
    let site = Span::mixed_site();
    let Interface { krate, ident, .. } = interface;
    let reference = interface.reference();
    let arms = interface.methods.iter().map(|method| {
        let ty = method_ident(interface, method);
        quote_spanned! {site=>
            id if id == <#ty as #krate::__private::Method>::INFO.id => {
                #krate::__private::Result::Ok(#krate::__private::Turns::turn::<#ty>(turns))
            }
        }
    });
    quote_spanned! {site=>
        impl<__Grain: #ident> #krate::__private::Answers<__Grain> for #reference {
            fn dispatch<__Turns: #krate::__private::Turns<__Grain>>(
                method: #krate::__private::MethodId,
                turns: __Turns,
            ) -> #krate::__private::Result<__Turns::Output, __Turns> {
                match method {
                    #(#arms)*
                    _ => #krate::__private::Result::Err(turns),
                }
            }
        }
    }
}
