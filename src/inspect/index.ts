/** What attention does in a model: its weights, figures of them, pictures of them, and the model without some heads. */
export type { AttentionCapture, WeightsOptions } from './capture.js';
export { type AttentionObserver, observe, type ObserveOptions } from './observe.js';
