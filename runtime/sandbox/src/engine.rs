//! The configuration of the WebAssembly engine, and nothing else.

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::{SandboxConfig, SandboxError, error::text};

/// Bytes of a linear memory that are reset by copying when an instance is dropped, instead of by
/// `madvise`: a call to the kernel costs more than copying what small guests touch.
const MEMORY_KEEP_RESIDENT: usize = 2 << 20;
/// The same for tables.
const TABLE_KEEP_RESIDENT: usize = 512 << 10;
/// The same for the stacks that guests run on.
const STACK_KEEP_RESIDENT: usize = 64 << 10;
/// Bytes of the engine's own records of one instance; its default rejects large guests.
const INSTANCE_SIZE: usize = 10 << 20;

/// An engine with pooled instances, or without where the pool can't be reserved.
pub(crate) fn build(config: &SandboxConfig) -> Result<Engine, SandboxError> {
    if config.pooling {
        let mut pooled = common();
        pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
        match Engine::new(&pooled) {
            Ok(engine) => return Ok(engine),
            Err(error) => tracing::warn!(
                error = text(&error),
                "the instance pool can't be reserved: instances are made on demand, which is \
                 slower; raise the limit on address space (ulimit -v) to have it"
            ),
        }
    }
    let mut on_demand = common();
    on_demand.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Engine::new(&on_demand).map_err(|error| SandboxError::Engine(text(&error)))
}

fn common() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    config
}

fn pool(config: &SandboxConfig) -> PoolingAllocationConfig {
    let SandboxConfig { instances, ceilings, .. } = *config;
    let memory_bytes = usize::try_from(ceilings.memory.0).unwrap_or(usize::MAX);
    // Reserved for every table, 8 bytes of address space each: one may have all that are allowed.
    let table_elements = usize::try_from(ceilings.tables).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_memories(instances)
        .total_tables(instances * 2)
        .total_core_instances(instances * 4)
        .max_core_instances_per_component(200)
        .max_memories_per_component(32)
        .max_tables_per_component(64)
        .max_component_instance_size(INSTANCE_SIZE)
        .max_core_instance_size(INSTANCE_SIZE)
        .max_memory_size(memory_bytes)
        .table_elements(table_elements)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT)
        .table_keep_resident(TABLE_KEEP_RESIDENT)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT);
    pool
}
