#[grains::rpc_trait(key = f64)]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

fn main() {}
