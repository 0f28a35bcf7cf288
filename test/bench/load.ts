// The benches are plain JavaScript beside the sources: what the tests use of them, with types.
import type { MaskJson, Tensor } from 'fovea';
import type { GPT2LMHeadModel } from 'fovea/models';

export interface Case {
  id: string;
  group: string;
  kind: string;
  op: string;
  label: string;
  dtype: string;
  work?: number;
  limit?: string;
  sets?: number;
  rows?: number;
  width?: number;
  beside?: string;
  n?: number;
  h?: number;
  d?: number;
  mask?: MaskJson;
}
export interface Row {
  id: string;
  peer: string;
  ours: number;
  theirs: number;
  ratio: number;
  rate?: number;
  share?: number;
  limit?: string;
}
export interface Report {
  date: string;
  cpu: string;
  version: string;
  isa: string;
  threads: number;
  rounds: number;
  node: string;
  peers: { id: string; name: string; version?: string; missing?: string; install?: string }[];
  rows: Row[];
  unsupported: { id: string; peer: string; why: string }[];
  failed: { id: string; peer: string; error: string }[];
}
interface Named {
  name: string;
  rate: number;
}
export interface Peer {
  start(): Promise<{ name?: string; version?: string; missing?: string }>;
  ask(question: object): Promise<{ milliseconds?: number; calls?: number; unsupported?: string; error?: string }>;
  stop(): Promise<void>;
}
export interface DescribedPeer {
  name: string;
  command: string[];
  environment: (threads: number) => Record<string, string | undefined>;
  install: string;
}

interface Modules {
  'cases.mjs': {
    groups: string[];
    dtypes: string[];
    bytesOf: Record<string, number>;
    benchCases: (options?: { tiny?: boolean; memory?: number }) => Case[];
    chosenCases: (options: { group?: string; dtype?: string; filter?: string; tiny?: boolean }) => Case[];
  };
  'timing.mjs': {
    median: (values: number[]) => number;
    callsFor: (
      prepared: { batch: (count: number) => Promise<number>; count?: number },
      milliseconds: number,
    ) => Promise<number>;
  };
  'composed-attention.mjs': {
    causalMask: (n: number) => Tensor;
    composedAttention: (heads: [q: Tensor, k: Tensor, v: Tensor], visible: Tensor) => Tensor;
    composeAttention: (model: GPT2LMHeadModel, visible: Tensor) => void;
  };
  'limits.mjs': { limitOf: (test: { limit?: string }, probes: object) => string | undefined };
  'peers.mjs': {
    timePair: (
      test: Case,
      pair: { id: string; own: Peer; peer: Peer; rounds: number; question: object },
    ) => Promise<{ row?: Row; failed?: { peer: string; error: string } }>;
    comparePeers: (options: {
      cases: Case[];
      known: Record<string, DescribedPeer>;
      rounds: number;
      threads: number;
      tiny?: boolean;
      say?: (text: string) => void;
    }) => Promise<Report>;
  };
  'peers/table.mjs': {
    rowOf: (test: Partial<Case>, peer: string, ours: number[], theirs: number[], limit?: Named) => Row;
    markdown: (report: Report) => string;
  };
  'peers/registry.mjs': { peers: () => Record<string, DescribedPeer> };
  'peers/peer-process.mjs': { PeerProcess: new (command: string[], environment?: Record<string, string>) => Peer };
  'peers/onnx-models.mjs': {
    gpt2Graph: (model: object, capacity: number) => Buffer;
    encoderGraph: (test: object) => Buffer;
    multiHeadGraph: (test: object, biased?: boolean) => Buffer;
    groupedQueryGraph: (test: object) => Buffer;
  };
  'peers/mask-numbers.mjs': { maskNumbers: (mask: MaskJson, n: number, m: number) => Float32Array };
  'peers/gguf.mjs': { writeGpt2: (path: string, model: object, dtype: string) => void };
}

export const bench = (file: string): string => new URL(`../../bench/${file}`, import.meta.url).pathname;

/** A module of bench/. */
export async function load<File extends keyof Modules>(file: File): Promise<Modules[File]> {
  return (await import(bench(file))) as Modules[File];
}
