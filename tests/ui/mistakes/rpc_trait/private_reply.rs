mod vault {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Coin;

    #[grains::rpc_trait]
    pub trait Vault {
        async fn get(&self) -> grains::Result<Coin>;
    }
}

fn main() {}
