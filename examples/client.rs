//! A node that takes clients, and a client that calls it: two programs in one, for reading. In life the first two parts are in
//! a library that both share, the node in one program and the client in another, which needs the feature `client` alone.
//!
//! `cargo run --example client --features client`

use grains::{Client, ClientConfig, ClientsConfig, ClusterConfig, prelude::*};

/// What clients may ask.
#[rpc_trait(client)]
pub trait Guestbook {
    /// Adds a line, and says how many there are.
    async fn sign(&mut self, line: String) -> Result<usize>;
}

#[grain(Guestbook)]
struct GuestbookGrain {
    ctx: Ctx<Self>,
    lines: Vec<String>,
}

impl Lifecycle for GuestbookGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, lines: Vec::new() })
    }
}

impl Guestbook for GuestbookGrain {
    async fn sign(&mut self, line: String) -> Result<usize> {
        let request = self.ctx.request();
        self.lines.push(format!("{}: {line}", request.principal().unwrap_or("a node")));
        println!("{}", self.lines.join("\n"));
        Ok(self.lines.len())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cluster = ClusterConfig::new("example").clients(ClientsConfig::new().listen("127.0.0.1:0"));
    let node = Node::builder()
        .cluster(cluster)
        .host::<GuestbookGrain>()
        .authorize_clients(|principal, grain, _| match grain.key() {
            "visitors" => Ok(()),
            _ => Err(format!("{principal} may sign the book of visitors only")),
        })
        .start()
        .await?;

    let gateway = node.client_address().ok_or("it takes clients")?;
    let client = Client::connect(ClientConfig::new("example", [gateway])).await?;
    let book: GuestbookRef = client.get("visitors");
    assert_eq!(book.sign("a nice place".into()).await?, 1);
    let refused = client.get::<GuestbookRef>("staff").sign("me too".into()).await;
    println!("{}", refused.expect_err("it is not for clients"));

    client.close().await;
    node.stop().await;
    Ok(())
}
