//! The chat example as its users meet it: processes, a command line, a web server, a WebSocket.

mod browser;
mod bytes_on_disk;
mod commands;
mod process;
mod stopping;
mod window;
mod writers;
