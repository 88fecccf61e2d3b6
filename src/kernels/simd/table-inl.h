// The table of the instruction set that is being compiled: the last part of simd/tiles.cpp.
HWY_BEFORE_NAMESPACE();
namespace fathom::kernels::HWY_NAMESPACE {
namespace {

const Tiles kTable = {
    .mul_f32 = MulTilesF32,
    .mul_bf16 = nullptr,
    .a_panels = false,
    .dot_f32_f32 = DotF32<F32Source>,
    .dot_f32_bf16 = DotF32<Bf16Source>,
    .dot_f32_f16 = DotF32<F16Source>,
    .dot_f32_e4m3 = DotF32<E4m3Source>,
    .dot_bf16_bf16 = nullptr,
    .dot_bf16_e4m3 = nullptr,
    .dot_compact = nullptr,
    .stream_bf16 = nullptr,
    .stream_e4m3 = nullptr,
    .quads_bf16 = nullptr,
    .quads_e4m3 = nullptr,
    .widen_bf16 = Widen<Bf16Source>,
    .widen_f16 = Widen<F16Source>,
    .widen_e4m3 = Widen<E4m3Source>,
    .widen_e4m3_bf16 = nullptr,
    .scale_e4m3 = ScaleE4m3,
    .scale_e4m3_bf16 = nullptr,
    .round_bf16 = RoundBf16,
    .round_f32 = RoundF32,
    .transpose32 = Transpose32,
    .pair_rows = nullptr,
    .pair_rounded = nullptr,
    .quantize = Quantize,
    .largest = Largest,
    .encode_e4m3 = EncodeE4m3Row,
    .encode_e5m6 = EncodeE5m6Row,
    .scale_e5m6 = ScaleE5m6Row,
    .mul_scaled_f32 = MulScaledF32,
    .column_tile_f32 = ColumnTileF32,
    .mul_scaled_bf16 = nullptr,
    .quantize_rows_bf16 = nullptr,
    .column_tile_bf16 = nullptr,
    .pair_codes = nullptr,
    .turn_codes = nullptr,
};

}  // namespace
}  // namespace fathom::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
