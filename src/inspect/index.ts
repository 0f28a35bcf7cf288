/**
 * What attention does in a model: its weights, figures of them, pictures of them, and the model without some heads; and
 * what time ops take.
 */
export { ablate, type Ablation } from './ablate.js';
export { alignment, type Alignment, compareHeads, entropy, type EntropyOptions } from './analysis.js';
export type { AttentionCapture, WeightsOptions } from './capture.js';
export type { GridOptions } from './grid.js';
export { heatmapSvg, type HeatmapOptions } from './heatmap-svg.js';
export { htmlReport, type ReportOptions, type ReportSection } from './html-report.js';
export { machineLimits, type MachineLimits } from './machine-limits.js';
export { type AttentionObserver, observe, type ObserveOptions } from './observe.js';
export {
  classifyHeads,
  type ClassifyOptions,
  type HeadClass,
  type HeadPattern,
  type PatternScores,
} from './patterns.js';
export { Profile, profile, type ProfiledCall, type ProfileOptions } from './profile.js';
export type { Cost } from './profile-kinds.js';
export type { OpProfile } from './profile-summary.js';
export type { TableOptions } from './profile-table.js';
export type { ChromeTrace, ChromeTraceEvent } from './profile-trace.js';
export { rollout, type RolloutOptions } from './rollout.js';
export type { MapOptions, WeightSource } from './weight-rows.js';
