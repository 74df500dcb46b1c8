//! `bit`: operations on the low 32 bits of a number (BitOp's interface,
//! <https://bitop.luajit.org>).

use std::ffi::c_int;

use super::super::host::arguments;
use super::super::lua::{Raise, State, ffi, native, push, set_function, wrong_type};

/// Pushes the library's table.
pub(in super::super) unsafe fn open(state: State) {
    unsafe {
        ffi::lua_createtable(state, 0, 12);
        set_function(state, -1, c"tobit", native!(tobit));
        set_function(state, -1, c"bnot", native!(bnot));
        set_function(state, -1, c"band", native!(band));
        set_function(state, -1, c"bor", native!(bor));
        set_function(state, -1, c"bxor", native!(bxor));
        set_function(state, -1, c"lshift", native!(lshift));
        set_function(state, -1, c"rshift", native!(rshift));
        set_function(state, -1, c"arshift", native!(arshift));
        set_function(state, -1, c"rol", native!(rol));
        set_function(state, -1, c"ror", native!(ror));
        set_function(state, -1, c"bswap", native!(bswap));
        set_function(state, -1, c"tohex", native!(tohex));
    }
}

/// The low 32 bits of an argument, rounded to an integer as the processor
/// rounds: adding 2^52 + 2^51 leaves them at the end of the mantissa.
unsafe fn bits(state: State, at: c_int) -> Result<u32, Raise> {
    unsafe {
        let number = ffi::lua_tonumber(state, at);
        let bits = (number + 6_755_399_441_055_744.0).to_bits() as u32;
        if bits == 0 && ffi::lua_isnumber(state, at) == 0 {
            return Err(wrong_type(state, at, "number"));
        }
        Ok(bits)
    }
}

unsafe fn give(state: State, bits: u32) -> Result<c_int, Raise> {
    unsafe { ffi::lua_pushnumber(state, f64::from(bits.cast_signed())) };
    Ok(1)
}

unsafe fn tobit(state: State) -> Result<c_int, Raise> {
    unsafe { give(state, bits(state, 1)?) }
}

unsafe fn bnot(state: State) -> Result<c_int, Raise> {
    unsafe { give(state, !bits(state, 1)?) }
}

unsafe fn fold(state: State, combine: fn(u32, u32) -> u32) -> Result<c_int, Raise> {
    unsafe {
        let mut all = bits(state, 1)?;
        for at in (2..=arguments(state)).rev() {
            all = combine(all, bits(state, at)?);
        }
        give(state, all)
    }
}

unsafe fn band(state: State) -> Result<c_int, Raise> {
    unsafe { fold(state, |a, b| a & b) }
}

unsafe fn bor(state: State) -> Result<c_int, Raise> {
    unsafe { fold(state, |a, b| a | b) }
}

unsafe fn bxor(state: State) -> Result<c_int, Raise> {
    unsafe { fold(state, |a, b| a ^ b) }
}

unsafe fn shift(state: State, by: fn(u32, u32) -> u32) -> Result<c_int, Raise> {
    unsafe {
        let value = bits(state, 1)?;
        let count = bits(state, 2)? & 31;
        give(state, by(value, count))
    }
}

unsafe fn lshift(state: State) -> Result<c_int, Raise> {
    unsafe { shift(state, |value, n| value << n) }
}

unsafe fn rshift(state: State) -> Result<c_int, Raise> {
    unsafe { shift(state, |value, n| value >> n) }
}

unsafe fn arshift(state: State) -> Result<c_int, Raise> {
    unsafe { shift(state, |value, n| (value.cast_signed() >> n).cast_unsigned()) }
}

unsafe fn rol(state: State) -> Result<c_int, Raise> {
    unsafe { shift(state, u32::rotate_left) }
}

unsafe fn ror(state: State) -> Result<c_int, Raise> {
    unsafe { shift(state, u32::rotate_right) }
}

unsafe fn bswap(state: State) -> Result<c_int, Raise> {
    unsafe { give(state, bits(state, 1)?.swap_bytes()) }
}

unsafe fn tohex(state: State) -> Result<c_int, Raise> {
    unsafe {
        let value = bits(state, 1)?;
        let wanted = match ffi::lua_type(state, 2) {
            ffi::LUA_TNONE => 8,
            _ => bits(state, 2)?.cast_signed(),
        };
        let digits = match wanted {
            n if n < 0 => format!("{value:08X}"),
            _ => format!("{value:08x}"),
        };
        let shown = wanted.unsigned_abs().min(8) as usize;
        push(state, &digits.as_bytes()[8 - shown..]);
        Ok(1)
    }
}
