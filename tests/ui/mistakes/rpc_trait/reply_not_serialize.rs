struct Secret;

#[grains::rpc_trait]
trait Vault {
    async fn get(&self, name: String) -> grains::Result<Secret>;
    async fn open(&mut self) -> Result<(), Secret>;
}

async fn one_mistake_is_one_error(vault: VaultRef) {
    let _ = vault.get("a".into()).await;
}

fn main() {}
