//! The campaign of real faults: a cluster at work whose nodes are killed, frozen, cut off, slowed and starved, for as long as
//! it is told, and a judge that looks at everything they wrote down. `tests/campaign` runs it; CI runs a short slice.
//!
//! Reading order: `plan` (what goes wrong, from a seed), `network`, `proxy` and `means` (how it is made to), `cast` and
//! `scene` (the nodes, and how faults begin and end), `run` (round after round), `report` (numbers).

mod cast;
mod means;
mod network;
mod plan;
mod proxy;
mod report;
mod run;
mod scene;

use std::{
    env,
    time::{Duration, SystemTime},
};

use self::run::Campaign;

/// What a campaign is told.
#[derive(Clone, Debug)]
pub struct Settings {
    pub lasts: Duration,
    /// 3, 5 or more.
    pub nodes: usize,
    pub seed: u64,
    /// Which sorts of faults: `Kind::word`.
    pub faults: Vec<String>,
    /// Whether connections have certificates.
    pub tls: bool,
    /// Mechanisms of safety that all nodes do without.
    pub lacks: Vec<String>,
}

const SORTS: [&str; 6] = ["kills", "freezes", "cuts", "proxies", "disks", "clocks"];

impl Settings {
    /// From words as in `--seconds 30 --tls`.
    fn read(words: &str) -> Result<Self, String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut settings = Self {
            lasts: Duration::from_secs(60),
            nodes: 5,
            seed: now.as_secs(),
            faults: SORTS.map(str::to_owned).to_vec(),
            tls: false,
            lacks: Vec::new(),
        };
        let list = |value: &str| value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let mut words = words.split_whitespace();
        while let Some(option) = words.next() {
            if option == "--tls" {
                settings.tls = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{option} is a whole number, not {value:?}"));
            match option {
                "--seconds" => settings.lasts = Duration::from_secs(number()?),
                "--nodes" => settings.nodes = number()? as usize,
                "--seed" => settings.seed = number()?,
                "--faults" => settings.faults = list(value),
                "--lacks" => settings.lacks = list(value),
                _ => return Err(format!("there is no option {option}: see tests/campaign")),
            }
        }
        if !(3..=20).contains(&settings.nodes) || settings.nodes == 4 {
            return Err("--nodes is 3, or 5 to 20: three or five of them vote".to_owned());
        }
        match settings.faults.iter().find(|sort| !SORTS.contains(&sort.as_str())) {
            Some(sort) => Err(format!("there are no faults called {sort:?}: there are {}", SORTS.join(","))),
            None => Ok(settings),
        }
    }
}

/// What CI runs: the first rounds of a plan, one of each of the most important faults.
#[test]
fn a_slice_of_the_campaign_has_no_violation() {
    let settings = Settings::read("--seconds 1 --seed 1 --faults kills,freezes,cuts").unwrap();
    Campaign::run(&settings);
}

#[test]
#[ignore = "for tests/campaign"]
fn campaign() {
    let words = env::var("GRAINS_CAMPAIGN").unwrap_or_default();
    Campaign::run(&Settings::read(&words).unwrap_or_else(|mistake| panic!("{mistake}")));
}

#[test]
fn mistaken_options_are_named() {
    let mistake = |words| Settings::read(words).unwrap_err();
    assert_eq!(mistake("--seconds"), "--seconds needs a value");
    assert_eq!(mistake("--seed many"), "--seed is a whole number, not \"many\"");
    assert!(mistake("--nodes 4").contains("3, or 5 to 20"));
    assert!(mistake("--faults kills,floods").contains("\"floods\""));
    assert!(mistake("--second 3").contains("no option --second"));
    let told = Settings::read("--tls --nodes 3 --faults cuts,kills --seconds 9 --seed 4").unwrap();
    assert_eq!((told.nodes, told.seed, told.lasts.as_secs(), told.tls), (3, 4, 9, true));
    assert_eq!(told.faults, ["cuts", "kills"]);
}
