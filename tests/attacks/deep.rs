//! No chain of calls is too long for the stack.
use grains::prelude::*;

#[rpc_trait]
pub trait Deep {
    async fn look(&self, path: Vec<String>) -> Result<u64>;
    async fn big(&mut self, left: u64) -> Result<u64>;
    async fn who(&self) -> Result<u64>;
}
#[grain(Deep)]
pub struct DeepGrain {
    ctx: Ctx<Self>,
    parents: u64,
}
impl Lifecycle for DeepGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let mut parents = 0;
        if let Some(n) = ctx.key().strip_prefix("child:").and_then(|n| n.parse::<u64>().ok())
            && n > 0
        {
            parents = 1 + ctx.get::<DeepRef>(format!("child:{}", n - 1)).who().await?;
        }
        Ok(Self { ctx, parents })
    }
}
impl Deep for DeepGrain {
    async fn look(&self, mut path: Vec<String>) -> Result<u64> {
        let Some(next) = path.pop() else { return Ok(1) };
        Ok(1 + self.ctx.get::<DeepRef>(next).look(path).await?)
    }
    async fn who(&self) -> Result<u64> {
        Ok(self.parents)
    }
    async fn big(&mut self, left: u64) -> Result<u64> {
        let mut buffer = [0_u8; 48 * 1024];
        buffer[left as usize % 1000] = 1;
        if left == 0 {
            return Ok(0);
        }
        let next: DeepRef = self.ctx.get(format!("big:{}", left - 1));
        let n = next.big(left - 1).await?;
        Ok(n + u64::from(buffer[left as usize % 1000]))
    }
}
async fn node() -> Node {
    Node::builder().host::<DeepGrain>().start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_turns_may_come_back_a_thousand_times() {
    let node = node().await;
    let path: Vec<String> = (0..2000).map(|n| ["a", "b"][n % 2].to_owned()).collect();
    let n = tokio::spawn(node.get::<DeepRef>("a").look(path)).await.unwrap().unwrap();
    assert_eq!(n, 2001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_a_thousand_activations_needs_no_deep_stack() {
    let node = node().await;
    let n = tokio::spawn(node.get::<DeepRef>("child:1000").who()).await.unwrap().unwrap();
    assert_eq!(n, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_turns_with_48_kb_each_fit_the_stack() {
    let node = node().await;
    let n = tokio::spawn(node.get::<DeepRef>("big:40").big(40)).await.unwrap().unwrap();
    assert_eq!(n, 40);
}
