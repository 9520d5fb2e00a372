//! The chat example as its users meet it: processes, a command line, a web server, a WebSocket.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests; and `pub` shows what the other files use")]

mod bench;
mod browser;
mod bytes_on_disk;
mod chromium;
mod cluster;
mod commands;
mod launched;
mod launcher;
mod moving;
mod process;
mod rota;
mod seen;
mod settings;
mod several;
mod stopping;
mod window;
mod writers;
