#[grains::rpc_trait]
trait Hash {
    async fn of(&mut self, text: String) -> grains::Result<u64>;
}

#[grains::grain(Hash, workers, workers = 0, workers = 1025, workers = 70_000, workers = "many", workers = 8, workers = 9)]
#[derive(Default)]
struct HashGrain;

impl Hash for HashGrain {
    async fn of(&mut self, text: String) -> grains::Result<u64> {
        Ok(text.len() as u64)
    }
}

fn main() {}
