'use strict'
// A client of the lab with keys: node curve_client.js ID N HOST PORT, and CBW_KEYS, a folder with client.key_secret and broker.key
const fs = require('fs')
const path = require('path')
const { Request } = require('zeromq')

function keyIn (file, name) {
  return new RegExp(`${name}\\s*=\\s*"([^"]{40})"`).exec(fs.readFileSync(path.join(process.env.CBW_KEYS, file), 'utf8'))[1]
}

async function main () {
  const [id, n, host, port] = process.argv.slice(2)
  const socket = new Request({
    routingId: id,
    curvePublicKey: keyIn('client.key_secret', 'public-key'),
    curveSecretKey: keyIn('client.key_secret', 'secret-key'),
    curveServerKey: keyIn('broker.key', 'public-key')
  })
  socket.connect(`tcp://${host}:${port}`)
  for (let i = 1; i <= Number(n); i++) {
    await socket.send(`${id}-${i}`)
    const [reply] = await socket.receive()
    console.log(`reply ${reply}`)
  }
  socket.close()
}

main()
