macro_rules! interfaces {
    ($($name:ident $method:ident)+) => { $(
        #[grains::rpc_trait(grain_type = "clock")]
        trait $name {
            async fn $method(&self) -> grains::Result<()>;
        }
        impl $name for ClockGrain {
            async fn $method(&self) -> grains::Result<()> {
                Ok(())
            }
        }
    )+ };
}
interfaces!(A a B b C c D d E e F f G g H h I i);

#[grains::grain(A, B, C, D, E, F, G, H, I)]
struct ClockGrain;

fn main() {}
