// Where tests/peers/install put the npm peers.
import { fileURLToPath, pathToFileURL } from 'node:url';
import path from 'node:path';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(process.env.VALETKEY_PEERS || path.join(here, '../../target/peers'));

export const load = (file) => import(pathToFileURL(path.join(root, 'node/node_modules', file)));
