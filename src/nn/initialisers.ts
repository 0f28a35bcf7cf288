/** What `nn.init` holds. */
export * from './depth-schemes.js';
export * from './init.js';
