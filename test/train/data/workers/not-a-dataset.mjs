// What a worker module must not make.
export default () => ({ dataset: [1, 2, 3] });
