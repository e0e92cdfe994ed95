//! Decimal arithmetic that is exact or says that it cannot be.

use rust_decimal::Decimal;

/// `raw x scale + offset`; `None` when the result needs more digits than a `Decimal` holds (96 bits, 28
/// decimals). `Decimal`'s own operators would round there without a word.
///
/// The result has as many decimals as the product and the offset need, whatever the value: 55.0, not 55.
pub(super) fn scale(raw: Decimal, scale: Decimal, offset: Decimal) -> Option<Decimal> {
    let product = raw.mantissa().checked_mul(scale.mantissa())?;
    let product_places = raw.scale() + scale.scale();
    let places = product_places.max(offset.scale());
    let product = shift(product, places - product_places)?;
    let offset = shift(offset.mantissa(), places - offset.scale())?;
    fit(product.checked_add(offset)?, places)
}

/// `(value - offset) / scale`, rounded where it does not come out.
pub(super) fn unscale(value: Decimal, scale: Decimal, offset: Decimal) -> Option<Decimal> {
    value.checked_sub(offset)?.checked_div(scale)
}

/// The whole number nearest to `(value - offset) / scale`, half a step away from zero; `None` when it takes more
/// digits than fit on the way. Whole numbers all along: a quotient cut to 28 digits could come to lie on the other
/// side of a half.
pub(super) fn nearest(value: Decimal, scale: Decimal, offset: Decimal) -> Option<i128> {
    let places = value.scale().max(offset.scale());
    let value = shift(value.mantissa(), places - value.scale())?;
    let offset = shift(offset.mantissa(), places - offset.scale())?;
    let distance = value.checked_sub(offset)?;
    let common = places.max(scale.scale());
    let distance = shift(distance, common - places)?;
    let step = shift(scale.mantissa(), common - scale.scale())?;
    let whole = distance.checked_div(step)?;
    let rest = distance.checked_rem(step)?;
    if rest.unsigned_abs() < step.unsigned_abs() - rest.unsigned_abs() {
        return Some(whole);
    }
    whole.checked_add(distance.signum() * step.signum())
}

/// The nearest `f64`.
pub(super) fn to_f64(number: Decimal) -> f64 {
    // Through text: correctly rounded, which the conversion of the crate does not promise.
    number.to_string().parse().unwrap_or(f64::NAN)
}

fn shift(number: i128, places: u32) -> Option<i128> {
    number.checked_mul(10i128.checked_pow(places)?)
}

fn fit(mut number: i128, mut places: u32) -> Option<Decimal> {
    loop {
        if let Ok(value) = Decimal::try_from_i128_with_scale(number, places) {
            return Some(value);
        }
        if places == 0 || number % 10 != 0 {
            return None;
        }
        number /= 10;
        places -= 1;
    }
}
