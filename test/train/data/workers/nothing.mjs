// What a worker module must not be: its default export is no function.
export default 5;
