struct Answer;

#[grains::rpc_trait]
trait Chat {
    async fn lines(&self) -> u32;
    async fn names(&self) -> Vec<String>;
    async fn clear(&mut self) -> ();
    async fn answer(&self) -> Answer;
}

fn main() {}
