//! Which crates each layer is built from. Lists say what may be there: whoever adds a dependency says so here.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::source::workspace;

/// What the core is built from: serialization, errors, ids, the trait for streams.
const CORE: &[&str] = &[
    "futures-core",
    "grains-core",
    "num-traits",
    "pin-project-lite",
    "rmp",
    "rmp-serde",
    "serde",
    "serde_core",
    "serde_derive",
    "thiserror",
    "thiserror-impl",
    "uuid",
];

/// What macros are built from: the usual three and what they need. The derives of the core need the same.
const MACROS: &[&str] = &["proc-macro2", "quote", "syn", "unicode-ident"];

#[test]
fn the_core_is_built_from_words_only() {
    let allowed = set(&[CORE, MACROS]);
    within("grains-core", tree(&["-p", "grains-core", "--all-features"]), &allowed);
}

#[test]
fn the_macros_are_built_from_syn_only() {
    let allowed = set(&[MACROS, &["grains-macros"]]);
    within("grains-macros", tree(&["-p", "grains-macros", "--all-features"]), &allowed);
}

#[test]
fn an_interface_crate_needs_no_runtime() {
    let allowed = set(&[CORE, MACROS, &["grains", "grains-macros"]]);
    within("grains without features", tree(&["-p", "grains", "--no-default-features"]), &allowed);
}

/// Stores lie below the runtime: what keeps things durable calls nothing that lives.
#[test]
fn the_stores_are_built_without_the_runtime() {
    let tree = tree(&["-p", "grains-store", "--all-features"]);
    assert!(tree.contains("openraft") && tree.contains("redb"), "it is where both are used: {tree:?}");
    assert!(!tree.contains("grains-runtime") && !tree.contains("grains-macros"), "{tree:?}");
}

/// `cargo tree` shows this platform only; the manifests are the same on all.
#[test]
fn light_crates_have_no_dependency_on_some_platforms_only() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    for light in ["grains", "grains-core", "grains-macros"] {
        let package = packages.iter().find(|package| package["name"] == light).expect("it is in the workspace");
        for dependency in package["dependencies"].as_array().expect("a list of dependencies") {
            let of_a_platform = !dependency["target"].is_null() && dependency["kind"] != "dev";
            assert!(!of_a_platform, "{light} depends on {} for {} only", dependency["name"], dependency["target"]);
        }
    }
}

#[test]
fn what_is_not_listed_is_found() {
    let planted = ["serde", "tokio"].map(str::to_owned).into();
    assert_eq!(unexpected(planted, &set(&[CORE])), ["tokio"]);
    assert!(tree(&["-p", "grains-runtime"]).contains("tokio"), "the tree of a crate that uses tokio must show it");
}

/// The crates that `cargo tree` shows, without build scripts' and tests' own.
fn tree(package: &[&str]) -> BTreeSet<String> {
    let mut args = vec!["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    args.extend(package);
    let lines = cargo(&args);
    lines.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(args).current_dir(workspace()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

fn set(lists: &[&[&'static str]]) -> BTreeSet<&'static str> {
    lists.iter().flat_map(|list| list.iter().copied()).collect()
}

fn unexpected(found: BTreeSet<String>, allowed: &BTreeSet<&str>) -> Vec<String> {
    found.into_iter().filter(|name| !allowed.contains(name.as_str())).collect()
}

#[track_caller]
fn within(what: &str, found: BTreeSet<String>, allowed: &BTreeSet<&str>) {
    let unexpected = unexpected(found, allowed);
    assert!(unexpected.is_empty(), "{what} is built from {}, which its layer does not allow", unexpected.join(", "));
}
