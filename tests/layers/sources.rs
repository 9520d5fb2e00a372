//! What the sources of each layer may name: the simulator can only replace what goes through the seams.

use crate::{
    scan::{Exception, Rule, broken},
    source::{File, all_files, files_of, from_workspace, read, workspace},
    tokens::{Kind, Token, tokens},
};

/// What nobody names outside the rooms that implement the seams.
const WORLD: [Rule; 12] = [
    Rule { below: "std::time", but: &["std::time::Duration"], instead: "ask `World::clock`" },
    Rule { below: "std::net", but: &[], instead: "use `World::transport`" },
    Rule { below: "std::fs", but: &[], instead: "use `World::disk`" },
    Rule { below: "std::os", but: &[], instead: "the system belongs behind a seam" },
    Rule { below: "std::env", but: &[], instead: "take a configuration" },
    Rule { below: "std::process", but: &[], instead: "return; the program decides how it ends" },
    Rule { below: "std::io::stdin", but: &[], instead: "take what is to be read" },
    Rule { below: "std::hash::RandomState", but: &[], instead: "hash with a fixed or a seeded hasher" },
    Rule {
        below: "std::collections::hash_map::RandomState",
        but: &[],
        instead: "hash with a fixed or a seeded hasher",
    },
    Rule { below: "std::collections::HashMap", but: &[], instead: "iterate in a fixed order: `BTreeMap`" },
    Rule { below: "std::collections::HashSet", but: &[], instead: "iterate in a fixed order: `BTreeSet`" },
    Rule { below: "std::collections::hash_set", but: &[], instead: "iterate in a fixed order: `BTreeSet`" },
];

/// Where chance comes from, when it does not come from the seed.
const CHANCE: [Rule; 4] = [
    Rule { below: "rand", but: &[], instead: "draw from `World::random`" },
    Rule { below: "fastrand", but: &[], instead: "draw from `World::random`" },
    Rule { below: "getrandom", but: &[], instead: "draw from `World::random`" },
    Rule { below: "uuid::Uuid::new_v4", but: &[], instead: "draw from `World::random`" },
];

#[test]
fn the_core_touches_no_world() {
    let own = [
        Rule { below: "std::thread", but: &[], instead: "nothing runs by itself in the core" },
        Rule { below: "tokio", but: &[], instead: "the core knows no runtime" },
    ];
    let rules: Vec<_> = own.into_iter().chain(WORLD).chain(CHANCE).collect();
    fine(broken(&files_of("grains-core/src/lib.rs"), &rules, &[]));
}

#[test]
fn the_runtime_touches_the_world_through_its_seams() {
    let own = [
        Rule { below: "std::thread", but: &["std::thread::panicking"], instead: "use `World::tasks`" },
        Rule { below: "tokio", but: &["tokio::sync"], instead: "use `World::clock`, `tasks` or `transport`" },
        Rule { below: "libc", but: &[], instead: "the system belongs behind a seam" },
        Rule { below: "rustix", but: &[], instead: "the system belongs behind a seam" },
        Rule { below: "mio", but: &[], instead: "use `World::transport`" },
        Rule { below: "socket2", but: &[], instead: "use `World::transport`" },
    ];
    let rules: Vec<_> = own.into_iter().chain(WORLD).chain(CHANCE).collect();
    let exceptions = [
        Exception {
            file: "grains-runtime/src/node.rs",
            path: "std::hash::RandomState",
            why: "keys the catalog, so that clients cannot choose keys that collide",
        },
        Exception {
            file: "grains-runtime/src/node/builder.rs",
            path: "std::hash::RandomState",
            why: "makes the same key; shards, and so the order of walks, do not depend on it",
        },
        Exception {
            file: "grains-runtime/src/settings/process.rs",
            path: "std::env",
            why: "what a process was told; all other rooms of the settings are given it",
        },
        Exception {
            file: "grains-runtime/src/settings/process.rs",
            path: "std::fs",
            why: "the file of the settings is read before there is a node with a world",
        },
        Exception {
            file: "grains-runtime/src/watchdog/keeper.rs",
            path: "std::env",
            why: "what a process was started as is known before there is a node with a world",
        },
        Exception {
            file: "grains-runtime/src/watchdog/keeper.rs",
            path: "std::os",
            why: "a watchdog is told by a socket, and has a group of processes of its own",
        },
        Exception {
            file: "grains-runtime/src/watchdog/keeper.rs",
            path: "std::process",
            why: "a watchdog is a process; no world that nodes are given has any",
        },
        Exception {
            file: "grains-runtime/src/watchdog/keeper.rs",
            path: "std::thread",
            why: "a watchdog belongs to the process, whatever runtimes and nodes come and go in it",
        },
        Exception {
            file: "grains-runtime/src/watchdog/keeper.rs",
            path: "std::time",
            why: "the same thread has no world to ask for the time",
        },
        Exception {
            file: "grains-runtime/src/watchdog/process.rs",
            path: "std::fs",
            why: "what people see of the process in a list",
        },
        Exception { file: "grains-runtime/src/watchdog/process.rs", path: "std::io::stdin", why: "where it is told" },
        Exception {
            file: "grains-runtime/src/watchdog/process.rs",
            path: "std::os",
            why: "the end of a process is told by the system",
        },
        Exception {
            file: "grains-runtime/src/watchdog/process.rs",
            path: "std::time",
            why: "it tells people how long it took, in a process without a node",
        },
        Exception { file: "grains-runtime/src/watchdog/process.rs", path: "rustix", why: "so is this" },
        Exception {
            file: "grains-runtime/src/watchdog/process.rs",
            path: "tokio",
            why: "it makes the runtime over which its world is",
        },
        Exception {
            file: "grains-runtime/src/tls/files.rs",
            path: "std::fs",
            why: "certificates are put there by people and programs that no disk of ours knows of",
        },
        Exception {
            file: "grains-runtime/src/ca/mod.rs",
            path: "std::fs",
            why: "the folder of an authority belongs to a command, not to a node",
        },
        Exception {
            file: "grains-runtime/src/ca/writing.rs",
            path: "std::fs",
            why: "files of keys need permissions and renames, for the same command",
        },
        Exception {
            file: "grains-runtime/src/ca/writing.rs",
            path: "std::os",
            why: "permissions of files of keys are Unix's own",
        },
    ];
    fine(broken(&outside_the_seams(), &rules, &exceptions));
}

/// The methods by which std asks the system without a name that the rules above would see.
const SYSTEM_METHODS: [&str; 9] = [
    "exists",
    "try_exists",
    "is_file",
    "is_dir",
    "metadata",
    "symlink_metadata",
    "canonicalize",
    "read_dir",
    "to_socket_addrs",
];

#[test]
fn no_method_reaches_the_system_around_the_seams() {
    let mut found = Vec::new();
    for File { path, tokens } in outside_the_seams().iter().chain(&files_of("grains-core/src/lib.rs")) {
        found.extend(
            system_calls(tokens).map(|(line, method)| format!("{path}:{line} calls `.{method}()`: use a seam")),
        );
    }
    fine(found);
}

fn system_calls(tokens: &[Token]) -> impl Iterator<Item = (usize, &str)> {
    let calls = tokens.windows(3).filter(|three| three[0].is('.') && three[2].is('('));
    calls.filter_map(|three| Some((three[1].line, three[1].word()?))).filter(|(_, word)| SYSTEM_METHODS.contains(word))
}

#[test]
fn a_planted_method_is_found() {
    let planted = tokens("fn f(p: &Path) {\n    p.exists() && world.exists\n}");
    assert_eq!(system_calls(&planted).collect::<Vec<_>>(), [(2, "exists")]);
}

/// The rooms of the cluster that decide and do nothing: time, chance and messages come in, what to do goes out.
const PURE: [&str; 10] =
    ["command", "founding", "lease", "member", "names", "partition", "placement", "state", "view", "voters"];

#[test]
fn the_pure_rooms_of_the_cluster_only_decide() {
    let own = [
        Rule { below: "tokio", but: &[], instead: "a pure room knows no runtime" },
        Rule { below: "std::thread", but: &[], instead: "nothing runs by itself in a pure room" },
        Rule { below: "std::io", but: &[], instead: "return what is to be read or written" },
        Rule { below: "std::future", but: &[], instead: "return what to wait for" },
        Rule { below: "grains_core::world", but: &[], instead: "take `now` or a number drawn, return what to do" },
        Rule { below: "crate::world", but: &[], instead: "take `now` or a number drawn, return what to do" },
        Rule { below: "grains_store::consensus", but: &[], instead: "say what you need of it in your own words" },
        Rule {
            below: "crate::cluster::consensus",
            but: &["crate::cluster::consensus::Agreed"],
            instead: "say what you need of it in your own words",
        },
    ];
    let rules: Vec<_> = own.into_iter().chain(WORLD).chain(CHANCE).collect();
    let files = pure_rooms();
    let mut found = broken(&files, &rules, &[]);
    for File { path, tokens } in &files {
        found.extend(waits(tokens).map(|(line, word)| format!("{path}:{line} says `{word}`: a pure room never waits")));
    }
    fine(found);
}

fn waits(tokens: &[Token]) -> impl Iterator<Item = (usize, &str)> {
    let words = tokens.iter().filter_map(|token| Some((token.line, token.word()?)));
    words.filter(|(_, word)| ["async", "await"].contains(word))
}

#[test]
fn a_planted_wait_is_found() {
    let planted = tokens("async fn f() {\n    g().await\n}");
    assert_eq!(waits(&planted).collect::<Vec<_>>(), [(1, "async"), (2, "await")]);
}

fn pure_rooms() -> Vec<File> {
    let room = |path: &str| path.strip_prefix("grains-runtime/src/cluster/").map(|rest| rest.replace(".rs", "/"));
    let is_pure =
        |path: &str| room(path).is_some_and(|room| PURE.contains(&room.split('/').next().unwrap_or_default()));
    files_of("grains-runtime/src/lib.rs").into_iter().filter(|file| is_pure(&file.path)).collect()
}

#[test]
fn every_pure_room_is_judged() {
    let seen: Vec<_> = pure_rooms().into_iter().map(|file| file.path).collect();
    for room in PURE {
        let file = format!("grains-runtime/src/cluster/{room}");
        assert!(seen.iter().any(|path| path.starts_with(&file)), "{room} is not among {seen:?}");
    }
    assert!(seen.contains(&"grains-runtime/src/cluster/lease/grants.rs".to_owned()), "{seen:?}");
}

/// The stores, and the rooms of the runtime but for those that implement the seams.
fn outside_the_seams() -> Vec<File> {
    let is_seam = |path: &str| {
        let rooms = ["grains-runtime/src/world/", "grains-runtime/src/sim/"];
        rooms.iter().any(|room| path.starts_with(room)) || path == "grains-runtime/src/main_fn.rs"
    };
    let mut files = files_of("grains-store/src/lib.rs");
    files.extend(files_of("grains-runtime/src/lib.rs").into_iter().filter(|file| !is_seam(&file.path)));
    files
}

#[test]
fn the_guards_see_the_rooms_they_guard() {
    let seen: Vec<_> = outside_the_seams().into_iter().map(|file| file.path).collect();
    let runtime = ["activation/mailbox.rs", "node/builder.rs", "store/faulty.rs"];
    let stores = ["redb/writer.rs", "consensus/log/disk.rs"];
    let rooms = runtime.map(|room| format!("grains-runtime/src/{room}")).into_iter();
    for room in rooms.chain(stores.map(|room| format!("grains-store/src/{room}"))) {
        assert!(seen.contains(&room), "{room} is not among {seen:?}");
    }
    assert!(!seen.iter().any(|path| path.ends_with("tests.rs")), "tests are not judged: {seen:?}");
    assert!(!seen.iter().any(|path| path.contains("/sim/")), "the simulator implements the seams: {seen:?}");
}

/// The simulator implements the seams from one seed: it may ask tokio for virtual time, but chance comes from nowhere else.
#[test]
fn the_simulator_touches_no_real_world() {
    let own = [
        Rule { below: "std::thread", but: &["std::thread::current"], instead: "everything runs on one thread" },
        Rule { below: "tokio::net", but: &[], instead: "connections are simulated" },
        Rule { below: "tokio::fs", but: &[], instead: "files are simulated" },
        Rule { below: "tokio::spawn", but: &[], instead: "tasks belong to machines" },
        Rule { below: "tokio::select", but: &[], instead: "its order is random" },
        Rule { below: "libc", but: &[], instead: "nothing here asks the system" },
    ];
    let rules: Vec<_> = own.into_iter().chain(WORLD).chain(CHANCE).collect();
    let file = "grains-runtime/src/sim/seeds.rs";
    let traces = "grains-runtime/src/sim/worlds/traces.rs";
    let exceptions = [
        Exception { file, path: "std::env", why: "which seeds to run is for whoever runs the tests to say" },
        Exception { file, path: "std::thread", why: "worlds run side by side, each on its one thread" },
        Exception { file: traces, path: "std::env", why: "where people want the events of worlds that are over" },
        Exception { file: traces, path: "std::fs", why: "these events, in a file" },
    ];
    let rooms: Vec<_> = files_of("grains-runtime/src/lib.rs")
        .into_iter()
        .filter(|file| file.path.starts_with("grains-runtime/src/sim/"))
        .collect();
    assert!(rooms.len() > 10, "the simulator has moved: {} rooms found", rooms.len());
    fine(broken(&rooms, &rules, &exceptions));
}

#[test]
fn expansions_name_only_the_private_module() {
    let mut found = Vec::new();
    for File { path, tokens } in files_of("grains-macros/src/lib.rs") {
        for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.is_word("krate")) {
            let interpolated = at.checked_sub(1).is_some_and(|before| tokens[before].is('#'));
            let after = (tokens.get(at + 1).map(|token| &token.kind), tokens.get(at + 2));
            let private = matches!(after, (Some(Kind::Colons), Some(name)) if name.is_word("__private"));
            if interpolated && !private {
                found.push(format!("{path}:{} expands to `#krate` without `::__private`", token.line));
            }
        }
        for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Colons) {
            let before = at.checked_sub(1).map(|before| &tokens[before]);
            let absolute =
                before.is_none_or(|before| before.word().is_none() && !before.is('>') && !is_splice(&tokens, at));
            let name = tokens.get(at + 1).and_then(|name| name.word()).unwrap_or_default();
            if absolute && !ABSOLUTE.iter().any(|(file, allowed, _)| *file == path && *allowed == name) {
                found.push(format!("{path}:{} writes `::{name}`: name it through `#krate::__private`", token.line));
            }
        }
    }
    fine(found);
}

/// The paths from the root that the macros write: file, crate, reason.
const ABSOLUTE: [(&str, &str, &str); 2] = [
    ("grains-macros/src/args.rs", "grains", "where `#krate` itself begins, unless `crate = ..` says otherwise"),
    ("grains-macros/src/rpc_trait/model.rs", "core", "a bound of the user's own trait, made before the crate is known"),
];

/// Whether the colons at `at` follow `#(..)`, whose end is a parenthesis.
fn is_splice(tokens: &[Token], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|before| tokens[before].is(')'))
}

#[test]
fn unsafe_stands_only_where_it_is_listed() {
    let allowed = [
        ("benchmarks/src/allocations.rs", "an allocator that counts, which is a trait of unsafe functions"),
        ("grains-runtime/src/activation/mod.rs", "`Sync` of the instance behind the turn lock"),
        ("grains-runtime/src/activation/mailbox/tests.rs", "an instance for loom, which checks every access to it"),
        ("grains-runtime/src/activation/turn.rs", "the instance, reached under a granted turn"),
        ("grains-runtime/src/watchdog/process/tests.rs", "a process whose first thread ends before the others"),
        ("grains-runtime/src/world/clock.rs", "a clock of Linux that std does not offer"),
        ("tests/allocations.rs", "an allocator that counts, which is a trait of unsafe functions"),
        ("tests/fuzzed.rs", "an allocator that counts, which is a trait of unsafe functions"),
    ];
    let mut found = Vec::new();
    let mut used = Vec::new();
    for path in all_files() {
        let name = from_workspace(&path);
        let tokens = tokens(&read(&path));
        let Some(first) = tokens.iter().find(|token| token.is_word("unsafe")) else { continue };
        match allowed.iter().any(|(file, _)| *file == name) {
            true => used.push(name),
            false => found.push(format!("{name}:{} is unsafe and not listed", first.line)),
        }
    }
    let stale = allowed.iter().filter(|(file, _)| !used.iter().any(|used| used == file));
    found.extend(stale.map(|(file, why)| format!("{file} is no longer unsafe ({why}): take it off the list")));
    fine(found);
}

#[test]
fn the_safe_crates_forbid_unsafe() {
    for root in ["src/lib.rs", "grains-core/src/lib.rs", "grains-macros/src/lib.rs", "grains-store/src/lib.rs"] {
        let text = read(&workspace().join(root));
        assert!(text.lines().any(|line| line == "#![forbid(unsafe_code)]"), "{root} lost `#![forbid(unsafe_code)]`");
    }
}

#[track_caller]
fn fine(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}
