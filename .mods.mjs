import fs from 'node:fs';
const u=()=>{const c=process.cpuUsage();return (c.user+c.system)/1000|0}; const r=()=>process.memoryUsage().rss/2**20;
for (const m of process.argv.slice(2)) {const a=u(),b=r(); await import(m); console.log(m.padEnd(40),u()-a+' ms',(r()-b).toFixed(1)+' MiB');}
console.log(r().toFixed(1));
