// Preloaded into a process, records what it does to files below $SHIM_ROOT, in order, into $SHIM_LOG:
// W writes, T truncations, C creations, M new folders, R renames, U unlinks, F syncs of files, D syncs
// of folders, and A for each line `ACK n m` on standard output. A record is a line
// `kind offset length path|other path`, followed by the bytes of a write. Nothing is written while a
// sync lasts, so each sync covers what was recorded before it. $SHIM_PAUSE_US delays the syncs of snapshots,
// databases and folders, and the write of a snapshot with number $SHIM_FAIL_SNAPSHOT finds the disk full. The read of
// a database with number $SHIM_FAIL_READ fails.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <errno.h>
static pthread_mutex_t mu=PTHREAD_MUTEX_INITIALIZER; static int lf=-1; static const char*root; static size_t rl;
__attribute__((constructor)) static void init(void){ root=getenv("SHIM_ROOT"); rl=root?strlen(root):0; const char*p=getenv("SHIM_LOG"); if(p) lf=syscall(SYS_openat,AT_FDCWD,p,O_WRONLY|O_CREAT|O_APPEND,0644); }
static void rec(char op,const char*path,const char*p2,unsigned long off,const void*d,unsigned long n){ char h[8192]; int k=snprintf(h,sizeof h,"%c %lu %lu %s|%s\n",op,off,n,path,p2?p2:""); syscall(SYS_write,lf,h,k); if(d) syscall(SYS_write,lf,d,n); }
static int fdp(int fd,char*b){ char l[64]; snprintf(l,64,"/proc/self/fd/%d",fd); int n=readlink(l,b,4000); if(n<0)return 0; b[n]=0; return rl&&!strncmp(b,root,rl); }
static int abs_(const char*p,char*b){ if(p[0]=='/')snprintf(b,4096,"%s",p); else { getcwd(b,2048); strcat(b,"/"); strcat(b,p);} return rl&&!strncmp(b,root,rl); }
static int ends(const char*p,const char*e){ size_t n=strlen(p),k=strlen(e); return n>=k&&!strcmp(p+n-k,e); }
static int iss(const char*p){ return strstr(p,"/snapshot.")!=0; }
static int isl(const char*p){ return ends(p,".log")||ends(p,"/journal")||ends(p,"/journal_2"); }
static int fails(const char*var,int*count,const char*p){ const char*v=getenv(var); if(!v||!isl(p))return 0; return ++*count==atoi(v); }
static int snapshots; static int full(const char*p){ const char*v=getenv("SHIM_FAIL_SNAPSHOT"); if(!v||!iss(p))return 0; return ++snapshots==atoi(v); }
static int reads; static int unread(int fd){ char p[4096]; const char*v=getenv("SHIM_FAIL_READ"); if(!v||!fdp(fd,p)||!strstr(p,"/database/"))return 0; return __atomic_add_fetch(&reads,1,__ATOMIC_SEQ_CST)==atoi(v); }
static int syncs,data_syncs,writes;
#define L pthread_mutex_lock(&mu)
#define U pthread_mutex_unlock(&mu)
ssize_t write(int fd,const void*b,size_t n){ char p[4096]; if(lf>=0){ if(fd==1&&n>4&&!memcmp(b,"ACK ",4)){ char*e; unsigned long a=strtoul((char*)b+4,&e,10); char m[32]; snprintf(m,32,"%lu",strtoul(e,0,10)); L; rec('A',"-",m,a,0,0); U; return syscall(SYS_write,fd,b,n);} if(fdp(fd,p)){ L; struct stat s; fstat(fd,&s); int fl=fcntl(fd,F_GETFL); unsigned long o=(fl&O_APPEND)?s.st_size:lseek(fd,0,SEEK_CUR); int no=fails("SHIM_FAIL_WRITE",&writes,p)?EIO:full(p)?ENOSPC:0; if(no){ ssize_t half=syscall(SYS_write,fd,b,n/2); if(half>0)rec('W',p,0,o,b,half); U; errno=no; return -1; } ssize_t r=syscall(SYS_write,fd,b,n); if(r>0)rec('W',p,0,o,b,r); U; return r; } } return syscall(SYS_write,fd,b,n); }
ssize_t pwrite64(int fd,const void*b,size_t n,off64_t o){ char p[4096]; if(lf>=0&&fdp(fd,p)){ L; ssize_t r=syscall(SYS_pwrite64,fd,b,n,o); if(r>0)rec('W',p,0,o,b,r); U; return r;} return syscall(SYS_pwrite64,fd,b,n,o); }
ssize_t read(int fd,void*b,size_t n){ if(lf>=0&&unread(fd)){ errno=EIO; return -1; } return syscall(SYS_read,fd,b,n); }
ssize_t pread64(int fd,void*b,size_t n,off64_t o){ if(lf>=0&&unread(fd)){ errno=EIO; return -1; } return syscall(SYS_pread64,fd,b,n,o); }
int ftruncate64(int fd,off64_t n){ char p[4096]; if(lf>=0&&fdp(fd,p)){ L; int r=syscall(SYS_ftruncate,fd,n); if(!r)rec('T',p,0,n,0,0); U; return r;} return syscall(SYS_ftruncate,fd,n); }
static int fs_(int fd,int nr){ char p[4096]; if(fdp(fd,p)&&(fails("SHIM_FAIL_SYNC",&syncs,p)||(nr==SYS_fdatasync&&fails("SHIM_FAIL_DATA_SYNC",&data_syncs,p)))){ errno=EIO; return -1; } const char*v=getenv("SHIM_PAUSE_US"); if(v&&fdp(fd,p)&&!isl(p))usleep(atoi(v)); L; int r=syscall(nr,fd); if(lf>=0&&!r&&fdp(fd,p)){ struct stat s; fstat(fd,&s); rec(S_ISDIR(s.st_mode)?'D':'F',p,0,0,0,0);} U; return r; }
int fsync(int fd){return fs_(fd,SYS_fsync);} int fdatasync(int fd){return fs_(fd,SYS_fdatasync);}
static int op(int dfd,const char*p,int fl,int mode){ char b[4096]; if(lf>=0&&abs_(p,b)&&(fl&(O_CREAT|O_TRUNC))){ L; struct stat s; int ex=!stat(b,&s); int r=syscall(SYS_openat,dfd,p,fl,mode); if(r>=0){ if(!ex)rec('C',b,0,0,0,0); else if((fl&O_TRUNC)&&s.st_size)rec('T',b,0,0,0,0);} U; return r;} return syscall(SYS_openat,dfd,p,fl,mode); }
int open64(const char*p,int fl,...){ va_list a; va_start(a,fl); int m=va_arg(a,int); va_end(a); return op(AT_FDCWD,p,fl,m);} int open(const char*p,int fl,...){ va_list a; va_start(a,fl); int m=va_arg(a,int); va_end(a); return op(AT_FDCWD,p,fl,m);}
int rename(const char*x,const char*y){ char a[4096],b[4096]; int i=abs_(x,a); abs_(y,b); L; int r=syscall(SYS_rename,x,y); if(!r&&lf>=0&&i)rec('R',a,b,0,0,0); U; return r; }
int unlink(const char*x){ char a[4096]; int i=abs_(x,a); L; int r=syscall(SYS_unlink,x); if(!r&&lf>=0&&i)rec('U',a,0,0,0,0); U; return r; }
int mkdir(const char*x,mode_t m){ char a[4096]; int i=abs_(x,a); L; int r=syscall(SYS_mkdir,x,m); if(!r&&lf>=0&&i)rec('M',a,0,0,0,0); U; return r; }
