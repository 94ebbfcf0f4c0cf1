//! pgvector's `vector` type and arrays of it.
//!
//! The layout (`int32` varlena header, `int16` dimensions, `int16` unused, `float4` numbers) is pgvector's on-disk
//! format and as stable as it. The type's OID is never looked up by name: what is returned is typed by the
//! function's own declaration, which the installation script checks to be the type of the extension `vector`.

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::pg_sys;

use super::text::Text;
use crate::error::{Error, OrRaise, Place};

const HEADER_BYTES: usize = 8;

/// A `vector` in the current memory context.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vector(pg_sys::Datum);

impl Vector {
    /// Makes a vector from numbers as they come from the engine: little-endian `f32`, at most
    /// [`vector_embed_protocol::MAX_DIMENSIONS`].
    pub(crate) fn from_le_bytes(numbers: &[u8]) -> Self {
        const { assert!(cfg!(target_endian = "little"), "numbers are copied as they are") };
        let size = HEADER_BYTES + numbers.len();
        let dimensions = (numbers.len() / 4) as i16;
        // SAFETY: the allocation holds the header and all numbers.
        unsafe {
            let vector = pg_sys::palloc(size).cast::<u8>();
            pgrx::varlena::set_varsize_4b(vector.cast(), size as i32);
            vector.add(4).cast::<i16>().write(dimensions);
            vector.add(6).cast::<i16>().write(0);
            std::ptr::copy_nonoverlapping(numbers.as_ptr(), vector.add(HEADER_BYTES), numbers.len());
            Self(pg_sys::Datum::from(vector))
        }
    }

    /// Makes a vector from numbers, at most [`vector_embed_protocol::MAX_DIMENSIONS`].
    pub(crate) fn from_numbers(numbers: &[f32]) -> Self {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Self::from_le_bytes(&bytes)
    }

    pub(crate) fn datum(self) -> pg_sys::Datum {
        self.0
    }
}

// SAFETY: the datum is what the SQL declaration says, `vector`.
unsafe impl BoxRet for Vector {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: the datum was made in the memory context of this call.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

/// A `text[]` argument: its elements, NULLs included, and its shape.
#[derive(Debug)]
pub(crate) struct TextArray<'a> {
    elements: Vec<Option<Text<'a>>>,
    dimensions: Vec<i32>,
    lower_bounds: Vec<i32>,
}

impl<'a> TextArray<'a> {
    pub(crate) fn elements(&self) -> &[Option<Text<'a>>] {
        &self.elements
    }

    /// # Safety
    ///
    /// `datum` must be a `text[]` that is not NULL and lives as long as `'a`.
    unsafe fn from_datum(datum: pg_sys::Datum) -> Result<Self, Error> {
        // SAFETY: the caller promises an array of text; deconstruct_array fills `count` values and flags. A text
        // has length -1, is passed by reference and aligned to int.
        unsafe {
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let dimension_count = (*array).ndim as usize;
            let shape = array.add(1).cast::<i32>();
            let dimensions = std::slice::from_raw_parts(shape, dimension_count).to_vec();
            let lower_bounds =
                std::slice::from_raw_parts(shape.add(dimension_count), dimension_count).to_vec();

            let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
            pg_sys::deconstruct_array(
                array,
                pg_sys::TEXTOID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as _,
                &mut values,
                &mut nulls,
                &mut count,
            );
            let elements = (0..count as usize)
                .map(|i| match *nulls.add(i) {
                    true => Ok(None),
                    false => Text::from_datum(*values.add(i))
                        .map(Some)
                        .map_err(|error| error.at(Place::Element(i))),
                })
                .collect::<Result<_, _>>()?;
            Ok(Self { elements, dimensions, lower_bounds })
        }
    }
}

// SAFETY: the argument's datum is read as what the SQL declaration says, `text[]`.
unsafe impl<'fcx> ArgAbi<'fcx> for TextArray<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the functions are STRICT, so the argument is not NULL; it lives as long as the call.
        let array = unsafe { arg.unbox_arg_using_from_datum::<pg_sys::Datum>() }
            .map(|datum| unsafe { Self::from_datum(datum) });
        array.expect("a STRICT function is not called with NULL").or_raise()
    }
}

/// A `vector[]` of the shape of the argument it was made from.
#[derive(Debug)]
pub(crate) struct VectorArray {
    elements: Vec<Option<Vector>>,
    dimensions: Vec<i32>,
    lower_bounds: Vec<i32>,
}

impl VectorArray {
    /// `elements` must be as many as `texts` has.
    pub(crate) fn like(texts: TextArray<'_>, elements: Vec<Option<Vector>>) -> Self {
        assert_eq!(texts.elements.len(), elements.len(), "one vector for each text");
        Self { elements, dimensions: texts.dimensions, lower_bounds: texts.lower_bounds }
    }

    /// # Safety
    ///
    /// `element_type` must be pgvector's `vector`.
    unsafe fn into_datum(mut self, element_type: pg_sys::Oid) -> pg_sys::Datum {
        let mut nulls: Vec<bool> = self.elements.iter().map(Option::is_none).collect();
        let mut values: Vec<pg_sys::Datum> = self
            .elements
            .iter()
            .map(|vector| vector.map_or(pg_sys::Datum::null(), |vector| vector.0))
            .collect();
        // SAFETY: values and flags are as many as the dimensions say, since both come from one array.
        unsafe {
            let (mut length, mut by_value, mut alignment) = (0, false, 0);
            pg_sys::get_typlenbyvalalign(element_type, &mut length, &mut by_value, &mut alignment);
            let array = pg_sys::construct_md_array(
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
                self.dimensions.len() as i32,
                self.dimensions.as_mut_ptr(),
                self.lower_bounds.as_mut_ptr(),
                element_type,
                length.into(),
                by_value,
                alignment,
            );
            pg_sys::Datum::from(array)
        }
    }
}

// SAFETY: the datum is what the SQL declaration says, `vector[]`.
unsafe impl BoxRet for VectorArray {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: `flinfo` describes this very function, whose declared result is `vector[]`.
        unsafe {
            let function = (*(*fcinfo.as_mut_ptr()).flinfo).fn_oid;
            let element_type = pg_sys::get_element_type(pg_sys::get_func_rettype(function));
            let array = self.into_datum(element_type);
            fcinfo.return_raw_datum(array)
        }
    }
}
