//! What people write, and what comes of it.
#![cfg(all(feature = "cluster", feature = "redb"))]

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    time::Duration,
};

use super::{given::Given, name::Name, *};
use crate::{GrainOptions, cluster::Strategy, store::StoreChoice};

fn read(sources: &Sources) -> Settings {
    Settings::default().read(sources).unwrap_or_else(|error| panic!("{error}"))
}

fn read_file(text: &str) -> Settings {
    read(&Sources::new().file("a.toml", text))
}

/// What is wrong with sources, a line for each.
fn wrong(sources: &Sources) -> Vec<String> {
    let error = Settings::default().read(sources).unwrap_err();
    error.mistakes().iter().map(ToString::to_string).collect()
}

fn wrong_file(text: &str) -> Vec<String> {
    wrong(&Sources::new().file("a.toml", text))
}

/// Without where values came from.
#[track_caller]
fn same(one: &Settings, other: &Settings) {
    let values = |settings: &Settings| {
        let Settings { node, data_dir, cluster, grains, origins: _ } = settings.clone();
        (node, data_dir, cluster, grains)
    };
    assert_eq!(values(one), values(other));
}

/// Every setting, none as by default.
const FULL: &str = r#"
name = "a \"b\" \\ c"
data_dir = "some where"
store = "memory"
call_timeout = "1s"
activate_timeout = "2m"
deactivate_timeout = "3h"
store_timeout = "4d"
mailbox_len_max = 0x10
waiting_calls_max = 20
waiting_bytes_max = "21KiB"
idle_timeout = "5ms"
activations_max = 1_000
state_bytes_max = "3KiB"
stop_timeout = "0s"
slow_turn = "19s"
blocked_turn = "0s"
encode_local_calls = true

[cluster]
name = "shop"
listen = "127.0.0.1:7101"
advertise = "127.0.0.1:7201"
join = ["127.0.0.1:7101", "127.0.0.1:7102"]
roles = ["web", "batch"]
capacity = 7
voters = 5
voter_replace_after = "61s"
partitions = 16
lease = "3s"
heartbeat = "80us"
election = "90ns"
join_timeout = "1500ms"
calls_max = 12
places_max = 13
plaintext_on_any_network = true
death_certificates = false

[cluster.tls]
certificate = "a/certificate.pem"
key = "a/key.pem"
roots = "a/roots.pem"
development = "dev"

[cluster.clients]
enabled = true
listen = "127.0.0.1:7202"
advertise = "127.0.0.1:7203"
connections_max = 18
connections_per_principal_max = 19
calls_max = 20
call_bytes_max = "21KiB"
frame_bytes_max = "22KiB"
answer_bytes_max = "23MiB"
calls_per_second = 24
burst = 25

[cluster.states]
commits_max = 14
commit_bytes_max = "5MiB"
batch_len_max = 15
batch_bytes_max = "7KiB"
loads_max = 16
patience = "17s"

[grain.room]
idle_timeout = "1h"
keep_active = true
mailbox_len_max = 3
abandon_after = "18m"
store = "archive"
placement = "prefer_local"
role = "web"

[grain."odd \u0009.\"name"]
mailbox_len_max = 4
"#;

#[test]
fn the_defaults_read_back_as_they_are_printed() {
    let defaults = Settings::default();
    let printed = defaults.to_string();
    let settings = read_file(&printed);
    same(&settings, &defaults);
    assert!(printed.lines().all(|line| line.ends_with("# default") || line.ends_with(": not set")), "{printed}");
    assert!(printed.contains("call_timeout = \"30s\"                 # default\n"), "{printed}");
    assert_eq!(settings.cluster, None);
}

#[test]
fn everything_set_reads_back_as_it_is_printed() {
    let settings = read_file(FULL);
    let printed = settings.to_string();
    assert!(!printed.contains("default"), "a setting is not in this test: {printed}");
    let (grains, odd) = printed.split_once("[grain.\"odd").unwrap();
    assert!(!grains.contains("not set"), "a setting is not in this test: {printed}");
    assert!(odd.contains("mailbox_len_max = 4"));
    same(&read_file(&printed), &settings);
    let mut defaults = Settings::default();
    defaults.make_room_for(&Name::top(Name::CLUSTER));
    let mut default = BTreeMap::new();
    defaults.each(&mut |name, value| drop(default.insert(name, value.written())));
    settings.clone().each(&mut |name, value| assert_ne!(default.get(&name), Some(&value.written()), "{name}"));
}

#[test]
fn values_are_those_that_were_written() {
    let Settings { node, data_dir, cluster, grains, .. } = read_file(FULL);
    assert_eq!(node.name, "a \"b\" \\ c");
    assert_eq!(node.mailbox_len_max, 16);
    assert_eq!(node.state_bytes_max, 3 << 10);
    assert_eq!(node.store_timeout, Duration::from_secs(4 * 24 * 60 * 60));
    assert_eq!(data_dir.as_deref(), Some(Path::new("some where")));
    assert_eq!(node.store, Some(StoreChoice::Memory));
    let cluster = cluster.unwrap();
    assert_eq!(cluster.join, ["127.0.0.1:7101", "127.0.0.1:7102"]);
    assert_eq!(cluster.roles, ["batch", "web"].map(str::to_owned).into());
    assert_eq!(cluster.election, Duration::from_nanos(90));
    assert_eq!(cluster.states.commit_bytes_max, 5 << 20);
    assert_eq!(grains["room"].store, Some("archive".into()));
    assert_eq!(grains["room"].placement, Some(Strategy::PreferLocal));
    assert_eq!(grains["odd \t.\"name"].mailbox_len_max, Some(4));
}

#[test]
fn what_comes_later_counts_and_says_where_it_came_from() {
    let sources = Sources::new()
        .set("name=of an argument")
        .set("cluster.join=127.0.0.1:7101, 127.0.0.1:7102")
        .set("name=of the last argument")
        .variable("GRAINS_NAME", "of a variable")
        .variable("GRAINS_CLUSTER__ROLES", "")
        .variable("GRAINS_CLUSTER__LISTEN", "127.0.0.1:7101")
        .variable("GRAINS_ENCODE_LOCAL_CALLS", "true")
        .variable("GRAINS_STATE_BYTES_MAX", "2MiB")
        .variable("GRAINS_GRAIN__SHOPPING_CART__MAILBOX_LEN_MAX", "9")
        .variable("HOME", "is no setting")
        .file("a.toml", "name = 'of the file'\ncall_timeout = '1s'\n[cluster]\nname = 'shop'\nlisten = '127.0.0.1:1'");
    let settings = read(&sources);
    assert_eq!(settings.node.name, "of the last argument");
    assert_eq!(settings.node.state_bytes_max, 2 << 20);
    assert!(settings.node.encode_local_calls);
    assert_eq!(settings.grains["shopping-cart"].mailbox_len_max, Some(9));
    let cluster = settings.cluster.as_ref().unwrap();
    assert_eq!(cluster.listen, "127.0.0.1:7101");
    assert_eq!(cluster.join, ["127.0.0.1:7101", "127.0.0.1:7102"]);
    assert!(cluster.roles.is_empty());
    assert_eq!(*settings.origin("call_timeout"), Origin::File { path: "a.toml".into(), line: 2 });
    assert_eq!(*settings.origin("cluster.listen"), Origin::Variable("GRAINS_CLUSTER__LISTEN".to_owned()));
    assert_eq!(*settings.origin("idle_timeout"), Origin::Default);
    let printed = settings.to_string();
    for line in [
        "name = \"of the last argument\"        # argument --set name\n",
        "call_timeout = \"1s\"                  # a.toml:2\n",
        "listen = \"127.0.0.1:7101\"            # variable GRAINS_CLUSTER__LISTEN\n",
    ] {
        assert!(printed.contains(line), "{line:?} is not in {printed}");
    }
}

#[test]
fn defaults_of_the_program_are_below_all_sources() {
    let mut defaults = Settings::default();
    defaults.node.name = "shop".to_owned();
    defaults.cluster = Some(ClusterConfig::new("shops"));
    let settings = defaults.read(&Sources::new().set("cluster.voters=1")).unwrap();
    assert_eq!(settings.node.name, "shop");
    assert_eq!(settings.cluster, Some(ClusterConfig::new("shops").configure(|cluster| cluster.voters = 1)));
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let file = "nmae = 'a'\nmailbox_len_max = 'many'\n\n[cluster]\nname = 'shop'\nvoters = '3'\nlissten = 1\n";
    let sources = Sources::new()
        .file("a.toml", file)
        .variable("GRAINS_IDLE_TIMEOUT", "15")
        .variable("GRAINS_CLUSTR__NAME", "shop")
        .set("cluster.capacity=-1")
        .set("colour=red")
        .set("cluster=shop")
        .set("name");
    let told = [
        "argument --set name: a name and a value have to follow, as in `--set cluster.listen=127.0.0.1:7101`",
        "a.toml:1: there is no setting `nmae`: did you mean `name`?",
        "a.toml:2: `mailbox_len_max` is a whole number from 0 on; found the text \"many\"",
        "a.toml:6: `cluster.voters` is a whole number from 0 on; found the text \"3\"",
        "a.toml:7: there is no setting `cluster.lissten`: did you mean `cluster.listen`?",
        "variable GRAINS_IDLE_TIMEOUT: `idle_timeout` is a duration like \"30s\", \"250ms\" or \"15m\"; found \"15\"",
        "variable GRAINS_CLUSTR__NAME: there is no setting `clustr.name`: did you mean `cluster.name`?",
        "argument --set cluster.capacity: `cluster.capacity` is a whole number from 0 to 4294967295; found \"-1\"",
        "argument --set colour: there is no setting `colour`",
        "argument --set cluster: `cluster` is a table; found \"shop\"",
    ];
    assert_eq!(wrong(&sources), told);
    let error = Settings::default().read(&sources).unwrap_err().to_string();
    assert!(error.starts_with("10 mistakes in the settings\n  argument --set name: "), "{error}");
}

#[test]
fn no_setting_takes_what_it_is_not() {
    let mut full = read_file(FULL);
    let mut names = Vec::new();
    full.each(&mut |name, value| {
        let before = value.written();
        for given in [Given::Other("date", "1979-05-27".to_owned()), Given::Table, Given::List(vec![Given::Table])] {
            assert_eq!(value.set(&given), None, "{name} takes {given}");
        }
        assert_eq!(value.written(), before, "{name} has changed");
        names.push(name);
    });
    assert_eq!(names.len(), 17 + 17 + 4 + 11 + 6 + 2 * 7);
    for name in names {
        let told = wrong_file(&format!("{name} = 1979-05-27"));
        let expected = format!("a.toml:1: `{name}` is ");
        assert!(told[0].starts_with(&expected) && told[0].ends_with("found the date 1979-05-27"), "{told:?}");
    }
}

#[test]
fn tables_in_wrong_places_are_told() {
    assert_eq!(wrong_file("[name]\nfirst = 'a'"), ["a.toml:1: `name` is a text that is not empty; found a table"]);
    assert_eq!(wrong_file("grain.room = 5"), ["a.toml:1: `grain.room` is a table; found the number 5"]);
    assert_eq!(wrong_file("[[cluster]]\nname = 'a'"), ["a.toml:1: `cluster` is a table; found a list"]);
    let misspelt = "[clusster]\nname = 'shop'\nlisten = '127.0.0.1:7101'";
    assert_eq!(wrong_file(misspelt), ["a.toml:1: there is no setting `clusster`: did you mean `cluster`?"]);
}

#[test]
fn what_is_no_toml_is_told_with_line_and_column() {
    assert_eq!(
        wrong_file("name = 'a'\n\nidle_timeout = 5m\nname\n"),
        [
            "a.toml:3:16: string values must be quoted, expected literal string",
            "a.toml:4:5: key with no value, expected `=`",
        ]
    );
}

#[test]
fn a_cluster_has_a_name() {
    let told = ["a.toml:2: this makes the node part of a cluster, and `cluster.name` is missing"];
    assert_eq!(wrong_file("\n[cluster]\n"), told);
    let told =
        ["variable GRAINS_CLUSTER__VOTERS: this makes the node part of a cluster, and `cluster.name` is missing"];
    assert_eq!(wrong(&Sources::new().variable("GRAINS_CLUSTER__VOTERS", "1")), told);
    assert_eq!(read_file("[cluster]\nname = 'shop'").cluster, Some(ClusterConfig::new("shop")));
}

#[test]
fn every_variable_of_ours_is_a_setting() {
    let told = ["variable GRAINS_NAEM: there is no setting `naem`: did you mean `name`?"];
    assert_eq!(wrong(&Sources::new().variable("GRAINS_NAEM", "a")), told);
    let others =
        Sources::new().variable("GRAINS_SEED", "7").variable("GRAINS_SEEDS", "70").variable("grains_name", "b");
    same(&read(&others), &Settings::default());
}

fn nothing(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn os<const N: usize>(words: [&str; N]) -> [OsString; N] {
    words.map(OsString::from)
}

#[test]
fn the_file_is_that_of_the_argument_or_the_variable_or_the_folder() {
    let variable = || [("GRAINS_CONFIG".into(), "of-variable.toml".into())];
    let named = |path: &Path| Ok(format!("name = '{}'", path.display()));
    let name = |sources: &Sources| read(sources).node.name;
    for arguments in [vec!["shop", "--config", "of-argument.toml"], vec!["shop", "--config=of-argument.toml"]] {
        let (sources, rest) = Sources::of(arguments.into_iter().map(OsString::from), variable(), named);
        assert_eq!((name(&sources).as_str(), &rest[..]), ("of-argument.toml", &os(["shop"])[..]));
    }
    assert_eq!(name(&Sources::of(os(["shop"]), variable(), named).0), "of-variable.toml");
    assert_eq!(name(&Sources::of(os(["shop"]), [], named).0), "grains.toml");
    assert_eq!(name(&Sources::of(os(["shop"]), [], nothing).0), "node");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (sources, _) = Sources::of(os(["shop", "--config", "gone.toml"]), [], nothing);
    assert_eq!(wrong(&sources), ["cannot read the settings in gone.toml: entity not found"]);
    let locked = |_: &Path| Err(io::ErrorKind::PermissionDenied.into());
    assert_eq!(wrong(&Sources::of([], [], locked).0), ["cannot read the settings in grains.toml: permission denied"]);
}

#[test]
fn arguments_of_the_program_are_left_to_it() {
    let given =
        ["--set", "-v", "--setting", "x", "--set", "name=a", "", "-", "--set=call_timeout=1s", "--", "--set", "name=b"];
    let (sources, rest) = Sources::of(os(given), [], nothing);
    assert_eq!(rest, ["--set", "-v", "--setting", "x", "", "-", "--", "--set", "name=b"], "the first is its name");
    let settings = read(&sources);
    assert_eq!(settings.node.name, "a");
    assert_eq!(settings.node.call_timeout, Duration::from_secs(1));
}

#[test]
fn arguments_that_set_nothing_are_told() {
    let told = |given: &[&str]| {
        let given = ["shop"].iter().chain(given).map(OsString::from);
        wrong(&Sources::of(given, [], |_| Ok(String::new())).0)
    };
    assert_eq!(told(&["--config"]), ["argument --config: a file has to follow"]);
    assert_eq!(told(&["--config", "a", "--config=b"]), ["argument --config: there is one file only"]);
    let how = "a name and a value have to follow, as in `--set cluster.listen=127.0.0.1:7101`";
    assert_eq!(told(&["--set"]), [format!("argument --set: {how}")]);
    for text in ["=a", "a b=c", "a.=b", "name", "a\nb=1"] {
        let told = told(&["--set", text]);
        assert!(told[0].starts_with("argument --set ") && told[0].ends_with(how), "{told:?}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_utf_8_is_told_if_it_is_ours() {
    use std::os::unix::ffi::OsStrExt;
    let odd = || OsStr::from_bytes(b"\xff").to_owned();
    let variables = [("GRAINS_NAME".into(), odd()), ("OTHER".into(), odd()), (odd(), odd())];
    let (sources, rest) = Sources::of([odd(), odd(), "--set".into(), odd()], variables, nothing);
    assert_eq!(rest, [odd(), odd()]);
    let told = ["argument --set: what follows is not UTF-8", "variable GRAINS_NAME: its value is not UTF-8"];
    assert_eq!(wrong(&sources), told);
}

#[test]
fn a_grain_type_of_an_odd_name_can_be_set_by_an_argument() {
    let settings = read(&Sources::new().set("grain.\"a.b\".mailbox_len_max=3"));
    assert_eq!(settings.grains["a.b"].mailbox_len_max, Some(3));
    assert!(settings.to_string().contains("[grain.\"a.b\"]"));
}

#[test]
fn printed_origins_stay_in_their_comments() {
    let settings = read(&Sources::new().file("a\nname = 'b'", "name = 'a'"));
    assert_eq!(read_file(&settings.to_string()).node.name, "a");
}

#[test]
fn the_file_goes_over_the_options_of_the_program() {
    let text = "[grain.room]\nidle_timeout = '1h'\nkeep_active = true\nmailbox_len_max = 3\nrole = 'web'";
    let settings = read_file(text);
    let mut options = GrainOptions::new().idle_timeout(Duration::from_secs(1)).mailbox_len_max(5);
    options = options.placement(Strategy::Random);
    settings.over_grains([("room", HostedOptions::Called(&mut options))]).unwrap();
    assert_eq!(options.idle_timeout, Some(Duration::from_secs(60 * 60)));
    assert!(options.keep_active);
    assert_eq!(options.mailbox_len_max, Some(3));
    assert_eq!(options.placement.strategy, Strategy::Random);
    assert_eq!(options.placement.role.as_deref(), Some("web"));
    let mut kept = GrainOptions::new().keep_active();
    read_file("[grain.room]\nrole = 'web'").over_grains([("room", HostedOptions::Called(&mut kept))]).unwrap();
    assert!(kept.keep_active, "what the file does not say stays");
    read_file("[grain.room]\nkeep_active = false").over_grains([("room", HostedOptions::Called(&mut kept))]).unwrap();
    assert!(!kept.keep_active);
}

#[test]
fn what_means_nothing_for_a_grain_type_is_told() {
    let settings = read_file(
        "[grain.press]\nidle_timeout = '1s'\nplacement = 'hash'\nstore = 'memory'\n[grain.janitor]\nkeep_active = true",
    );
    let (mut press, mut janitor) = (GrainOptions::new(), GrainOptions::new());
    let hosted = [("press", HostedOptions::Workers(&mut press)), ("janitor", HostedOptions::Singleton(&mut janitor))];
    let error = settings.over_grains(hosted).unwrap_err();
    let told: Vec<_> = error.mistakes().iter().map(ToString::to_string).collect();
    let press = "means nothing, this grain type has workers: they live on every node that hosts it, and keep nothing";
    let janitor = "means nothing, a singleton is never idle and lives on any node that can host it";
    let expected = [
        format!("a.toml:6: `grain.janitor.keep_active` {janitor}"),
        format!("a.toml:4: `grain.press.store` {press}"),
        format!("a.toml:3: `grain.press.placement` {press}"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn grain_types_that_are_not_hosted_are_told_with_those_that_are() {
    let settings = read_file("[grain.rom]\n[grain.janitor]\nrole = 'web'\nmailbox_len_max = 5");
    let (mut room, mut janitor) = (GrainOptions::new(), GrainOptions::new());
    let hosted = [("room", HostedOptions::Called(&mut room)), ("janitor", HostedOptions::Singleton(&mut janitor))];
    let error = settings.over_grains(hosted).unwrap_err();
    let told: Vec<_> = error.mistakes().iter().map(ToString::to_string).collect();
    let expected = [
        "a.toml:3: `grain.janitor.role` means nothing, a singleton is never idle and lives on any node that can host it",
        "a.toml:1: grain type \"rom\" is not hosted here; this node hosts \"room\", \"janitor\"",
    ];
    assert_eq!(told, expected);
    assert_eq!(janitor.mailbox_len_max, Some(5));
}
