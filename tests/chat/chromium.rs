//! A real browser: Chromium without a screen, driven by ChromeDriver through WebDriver (<https://www.w3.org/TR/webdriver2/>).

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::{
    launched::until,
    process::{Folder, PATIENCE, rand_u128},
    writers::agent,
};

/// A window of a browser of its own, with nothing remembered.
pub struct Browser {
    driver: Child,
    /// Where its session is.
    session: String,
    _profile: Folder,
}

impl Browser {
    /// Starts it. The programs are those on the path, or at `CHROMEDRIVER` and `CHROMIUM`.
    pub async fn start() -> Self {
        let program = |of: &str, usual: &str| env::var(of).unwrap_or_else(|_| usual.to_owned());
        let port = 30_000 + u16::try_from(rand_u128() % 2_000).unwrap();
        let driver = Command::new(program("CHROMEDRIVER", "chromedriver"))
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .spawn()
            .expect("ChromeDriver starts: `tests/browser` installs it");
        let url = format!("http://127.0.0.1:{port}");
        let profile = Folder::new();
        let mut browser = Self { driver, session: url.clone(), _profile: profile };
        until("ChromeDriver answers", PATIENCE, async || {
            browser.ask("GET", "/status", &json!({})).filter(|status| status["ready"] == true)
        })
        .await;
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,800",
            &format!("--user-data-dir={}", browser._profile.text()),
        ];
        let options = json!({ "binary": program("CHROMIUM", "/usr/bin/chromium"), "args": args });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" } } } });
        let begun = browser.ask("POST", "/session", &wanted).expect("a session begins");
        browser.session = format!("{url}/session/{}", begun["sessionId"].as_str().expect("it has an id"));
        browser
    }

    /// Goes to a page.
    pub fn open(&self, url: &str) {
        self.must("POST", "/url", &json!({ "url": url }));
    }

    /// Runs a function body in the page, and gives what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.must("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Types into what is found there, as a person does. `\u{e007}` is the Enter key.
    pub fn type_into(&self, css: &str, text: &str) {
        let found = self.must("POST", "/element", &json!({ "using": "css selector", "value": css }));
        let id = found.as_object().and_then(|names| names.values().next()).and_then(Value::as_str).unwrap();
        self.must("POST", &format!("/element/{id}/value"), &json!({ "text": text }));
    }

    /// Takes the network from the page, as when a laptop leaves the house.
    pub fn cut_off(&self) {
        self.set_network(true);
    }

    /// Gives it back.
    pub fn connect_again(&self) {
        self.set_network(false);
    }

    fn set_network(&self, offline: bool) {
        let conditions = json!({ "offline": offline, "latency": 0, "throughput": -1 });
        self.must("POST", "/chromium/network_conditions", &json!({ "network_conditions": conditions }));
    }

    /// Waits until a script returns `true`.
    pub async fn until(&self, what: &str, limit: Duration, script: &str) {
        until(what, limit, async || (self.run(script) == true).then_some(())).await;
    }

    /// What the page has complained of. The failed requests of a browser to a node that is dead are no complaints.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.must("POST", "/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().unwrap().iter();
        let wrong = entries.filter(|entry| entry["level"] == "SEVERE" && entry["source"] != "network");
        wrong.map(|entry| entry["message"].to_string()).collect()
    }

    /// Keeps what a person would see now, as `<name>.png` among the artefacts of the tests.
    pub fn keep(&self, name: &str) -> PathBuf {
        let shot = self.must("GET", "/screenshot", &json!({}));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{name}.png"));
        fs::write(&file, BASE64_STANDARD.decode(shot.as_str().unwrap()).unwrap()).unwrap();
        file
    }

    #[track_caller]
    fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, path, body).unwrap_or_else(|| panic!("{method} {path} {body} fails"))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let url = format!("{}{path}", self.session);
        let mut answer = block_in_place(|| match method {
            "GET" => agent().get(&url).call(),
            _ => agent().post(&url).content_type("application/json").send(body.to_string()),
        })
        .ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        if !answer.status().is_success() {
            eprintln!("{method} {path}: {text}");
            return None;
        }
        Some(serde_json::from_str::<Value>(&text).ok()?["value"].clone())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session, and would go on without its driver.
        let _ = agent().delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
