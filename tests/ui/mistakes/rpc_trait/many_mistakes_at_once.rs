#[grains::rpc_trait(kind = "chat")]
trait Chat {
    async fn say(&mut self, text: &str, (x, y): (u8, u8)) -> grains::Result<()>;
    async fn leave(self);
    fn peek<T>(&self) -> grains::Result<T>;
    const MAX: usize = 1;
    async fn lines(&self) -> grains::Result<u32>;
}

#[grains::grain(Chat)]
struct ChatGrain;

impl Chat for ChatGrain {
    async fn say(&mut self, _: &str, _: (u8, u8)) -> grains::Result<()> {
        Ok(())
    }
    async fn leave(self) {}
    fn peek<T>(&self) -> grains::Result<T> {
        Err(grains::Error::new("nothing"))
    }
    async fn lines(&self) -> grains::Result<u32> {
        Ok(0)
    }
}

fn main() {}
