//! The configuration of the WebAssembly engine, and nothing else.

use quern_types::{ByteSize, Limits};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourcesRequired,
};

use crate::{SandboxConfig, SandboxError, error::text};

/// Most bytes of a linear memory that are reset by copying when an instance is dropped, instead of
/// by `madvise`: a call to the kernel costs more than copying what small guests touch.
const MEMORY_KEEP_RESIDENT: usize = 2 << 20;
/// The same for tables.
const TABLE_KEEP_RESIDENT: usize = 512 << 10;
/// The same for the stacks that guests run on.
const STACK_KEEP_RESIDENT: usize = 64 << 10;
/// What the above come in.
const PAGE: usize = 4 << 10;
/// Bytes of the engine's own records of one instance; its default rejects large guests.
const INSTANCE_SIZE: usize = 10 << 20;

/// Memories and tables that the pool has for each instance: what was composed of several components
/// has several. It always has as many as one component can have.
const MEMORIES: u32 = 2;
const TABLES: u32 = 4;
/// Memories and tables that one component can have.
const MOST_MEMORIES: u32 = 32;
const MOST_TABLES: u32 = 64;

/// An engine with pooled instances, or without where the pool can't be reserved; tells which.
pub(crate) fn build(config: &SandboxConfig) -> Result<(Engine, bool), SandboxError> {
    if config.pooling {
        let mut pooled = common();
        pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
        match Engine::new(&pooled) {
            Ok(engine) => return Ok((engine, true)),
            Err(error) => tracing::warn!(
                error = text(&error),
                "the instance pool can't be reserved: instances are made on demand, which is \
                 slower; raise the limit on address space (ulimit -v) to have it"
            ),
        }
    }
    let mut on_demand = common();
    on_demand.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    let engine = Engine::new(&on_demand).map_err(|error| SandboxError::Engine(text(&error)))?;
    Ok((engine, false))
}

/// Instances of one component that half of the pool's memories and tables suffice for; at least
/// one. `needs` is absent where it can't be told.
pub(crate) fn instances_of_one(instances: u32, needs: Option<ResourcesRequired>) -> u32 {
    let (memories, tables) = match needs {
        Some(needs) => (needs.num_memories, needs.num_tables),
        None => (MOST_MEMORIES, MOST_TABLES),
    };
    let half = |total: u32, each: u32| (instances * total / 2).checked_div(each);
    let fitting = [half(MEMORIES, memories), half(TABLES, tables)];
    fitting.into_iter().flatten().min().unwrap_or(u32::MAX).max(1)
}

fn common() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    config
}

/// What each of so many slots of the pool may keep for the next instance, so that those that nobody
/// uses keep no more than a part of the memory that there is for instances.
fn keep_resident(most: usize, part: ByteSize, slots: u32) -> usize {
    let each = part.0 / u64::from(slots.max(1));
    most.min(usize::try_from(each).unwrap_or(usize::MAX)) / PAGE * PAGE
}

fn pool(config: &SandboxConfig) -> PoolingAllocationConfig {
    let SandboxConfig { instances, memory, ceilings, .. } = *config;
    let memories = (instances * MEMORIES).max(MOST_MEMORIES);
    let tables = (instances * TABLES).max(MOST_TABLES);
    let part = |divisor| ByteSize(memory.0 / divisor);
    let memory_bytes = usize::try_from(ceilings.memory.0).unwrap_or(usize::MAX);
    // Reserved for every table, 8 bytes of address space each: one may have all that are allowed.
    let table_elements = usize::try_from(ceilings.tables).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_memories(memories)
        .total_tables(tables)
        .total_core_instances(instances.saturating_mul(Limits::CEILING.instances))
        .max_core_instances_per_component(Limits::CEILING.instances)
        .max_memories_per_component(MOST_MEMORIES)
        .max_tables_per_component(MOST_TABLES)
        .max_component_instance_size(INSTANCE_SIZE)
        .max_core_instance_size(INSTANCE_SIZE)
        .max_memory_size(memory_bytes)
        .table_elements(table_elements)
        .linear_memory_keep_resident(keep_resident(MEMORY_KEEP_RESIDENT, part(4), memories))
        .table_keep_resident(keep_resident(TABLE_KEEP_RESIDENT, part(16), tables))
        .async_stack_keep_resident(keep_resident(STACK_KEEP_RESIDENT, part(16), instances));
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_nobody_uses_keep_a_part_of_the_memory_at_most() {
        for (most, part, slots, kept) in [
            (2 << 20, ByteSize(u64::MAX), 2_000, 2 << 20),
            (2 << 20, ByteSize::mib(2_000), 2_000, 1 << 20),
            (2 << 20, ByteSize(10_000 * 100), 100, 8 << 10),
            (2 << 20, ByteSize::mib(1), 2_000, 0),
            (64 << 10, ByteSize::mib(1), 0, 64 << 10),
        ] {
            assert_eq!(keep_resident(most, part, slots), kept);
        }
    }

    #[test]
    fn no_component_can_take_more_than_half_of_the_memories_and_tables() {
        let needs = |num_memories, num_tables| {
            Some(ResourcesRequired {
                num_memories,
                max_initial_memory_size: None,
                num_tables,
                max_initial_table_size: None,
            })
        };
        for (needs, instances) in [
            (needs(0, 0), u32::MAX),
            (needs(1, 1), 1_000),
            (needs(1, 4), 500),
            (needs(32, 1), 31),
            (None, 31),
        ] {
            assert_eq!(instances_of_one(1_000, needs), instances);
        }
        assert_eq!(instances_of_one(1, needs(32, 64)), 1);
    }
}
