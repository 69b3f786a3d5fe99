import sys,re
# instructions in the innermost loop of each function
name=None; body={}
for line in open(sys.argv[1]):
    l=line.rstrip()
    m=re.match(r'^([A-Za-z_]\w*):',l)
    if m: name=m[1]; body[name]=[]; continue
    if name: body[name].append(l.strip())
for n,b in body.items():
    labels={}; best=None
    ins=0; pos=[]
    for l in b:
        m=re.match(r'^(\.L\w+):',l)
        if m: labels[m[1]]=len(pos); continue
        if not l or l.startswith('.') or l.startswith('@') or l.startswith('#'): continue
        pos.append(l)
        m=re.match(r'^b\w*(?:\.\w)?\s+(\.L\w+)',l) or re.match(r'^(?:bne|bnez|beq|bltu|blt|bgeu)\s.*(\.L\w+)',l)
        if m and m[1] in labels:
            c=len(pos)-labels[m[1]]
            print(n,'loop',c)
    print(n,'total',len(pos))
