'use strict'
// The lab's worker: node worker ID BROKER_HOST BROKER_PORT [SECONDS]. ID HN stands for the name of this machine.
const os = require('os')
const zmq = require('zeromq')

const [name, host, port, seconds = 1] = process.argv.slice(2)
const id = name === 'HN' ? `WOR_${os.hostname()}` : name
const broker = zmq.socket('req')

broker.on('message', (client, message) => {
  console.log(`${id} begins ${message} of ${client}`)
  setTimeout(() => broker.send([client, `${message} ${id}`]), Number(seconds) * 1000)
})

broker.identity = id
broker.connect(`tcp://${host}:${port}`)
broker.send(['', '']) // for no client, and no answer: it only registers
