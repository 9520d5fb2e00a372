struct Secret;

#[grains::rpc_trait]
trait Vault {
    async fn put(&mut self, name: String, secret: Secret) -> grains::Result<()>;
    async fn put_all(&mut self, secrets: Vec<Secret>) -> grains::Result<()>;
}

#[grains::grain(Vault)]
struct VaultGrain;

impl Vault for VaultGrain {
    async fn put(&mut self, _: String, _: Secret) -> grains::Result<()> {
        Ok(())
    }
    async fn put_all(&mut self, _: Vec<Secret>) -> grains::Result<()> {
        Ok(())
    }
}

async fn one_mistake_is_one_error(vault: VaultRef) {
    let _ = vault.put("a".into(), Secret).await;
}

fn main() {}
