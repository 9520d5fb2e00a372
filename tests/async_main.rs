//! A program whose `main` waits, on a runtime it did not build.

#[grains::main(worker_threads = 2)]
async fn main() -> grains::Result<()> {
    let node = grains::Node::builder().start().await?;
    drop(node);
    Ok(())
}
