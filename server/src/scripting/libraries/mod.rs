//! The libraries that Redis bundles with Lua, written anew: same functions,
//! same results, same error texts.

pub(super) mod bit;
pub(super) mod cjson;
pub(super) mod cmsgpack;
pub(super) mod pack;
