//! What is on disk and how it is reached. Knows nothing of commands or RESP.

pub mod access;
mod applied;
pub mod cache;
mod cached_rows;
mod collection;
mod counters;
mod engine;
mod expiry_hints;
mod filter;
mod followed;
pub mod generations;
pub mod header;
pub mod keys;
pub mod limits;
mod page;
mod pin;
pub mod record;
mod scan_cache;
mod scan_positions;
mod splice;
mod store;
mod stored_rows;
mod view;
pub mod weight;

pub use cached_rows::row_hash;
pub use engine::{Engine, FamilyHandle, MemoryPlan, Resources, count_nothing};
pub use followed::{Followed, ID_LEN};
pub use header::{Header, KeyType, Spread};
pub use keys::{MetaKey, Version};
pub use limits::TypeLimits;
pub use pin::{Pin, PinnedRows};
pub use record::Record;
pub use store::{Log, Position, Store, StoreError, SystemChanges};
pub use stored_rows::{Scan, StoredRows, VisitRow};
pub use view::{DurableView, Held, Hold};
